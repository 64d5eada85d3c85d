# 18 photographs of dates, figs and hazelnuts with polygons (13 to train, 5 to validate), with short
# sides of 256 to 320. docs/guides/datasets.md says where they come from.
_base_ = 'small_coco.py'
data_root = '{{$FRUITS_ROOT:data/fruits}}'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomChoiceResize',
        scales=[(side * 4 // 3, side) for side in (256, 288, 320)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(384, 288), keep_ratio=True),
    *_base_.test_tail,
]
dataset = dict(
    data_root=data_root,
    metainfo=dict(classes=('date', 'fig', 'hazelnut')),
    data_prefix=dict(img='images/'),
)
train_dataloader = dict(batch_size=2, dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/val.json')
test_evaluator = val_evaluator
