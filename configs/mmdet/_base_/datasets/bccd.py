# BCCD: photographs of blood cells, 640 x 480, boxes of 3 classes, 205 to train and 87 to validate; at
# half their size. docs/guides/datasets.md says where they come from.
_base_ = 'small_coco.py'
data_root = '{{$BCCD_ROOT:data/bccd}}'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='RandomFlip', prob=[0.25, 0.25], direction=['horizontal', 'vertical']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    _base_.test_tail[1],
]
dataset = dict(data_root=data_root, metainfo=dict(classes=('RBC', 'WBC', 'Platelets')))
train_dataloader = dict(
    batch_size=4,
    dataset=dict(**dataset, data_prefix=dict(img='images/train/'), pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(**dataset, data_prefix=dict(img='images/val/'), pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/val.json', metric='bbox')
test_evaluator = val_evaluator
