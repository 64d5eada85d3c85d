# Scenes of tools/dataset_converters/compose_scenes.py with the masks of their 8 kinds of objects, 128 x
# 128. Composed, not photographed: good for trying things out, not for results.
_base_ = 'small_coco.py'
data_root = '{{$SCENES_ROOT:data/scenes}}/coco'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0),
    *_base_.test_tail,
]
dataset = dict(
    data_root=data_root,
    metainfo=dict(classes=('ball', 'book', 'box', 'clock', 'flag', 'lamp', 'plate', 'vase')),
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        **dataset,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        **dataset,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/instances_val2017.json')
test_evaluator = val_evaluator
