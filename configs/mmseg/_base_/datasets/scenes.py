# Scenes of tools/dataset_converters/compose_scenes.py, 128 x 128, the 12 of ADE20K's classes that
# occur in them. Composed, not photographed: good for trying things out, not for results.
data_root = '{{$SCENES_ROOT:data/scenes}}/ade'
metainfo = dict(
    classes=(
        'wall', 'sky', 'floor', 'grass', 'lamp', 'box', 'book', 'ball', 'vase', 'plate', 'clock',
        'flag',
    ),
    # Told apart by colour-blind people, too: spm_mm/visualization/style.py.
    palette=[
        [230, 225, 215], [86, 180, 233], [105, 30, 0], [0, 158, 115], [240, 228, 66],
        [230, 159, 0], [0, 114, 178], [213, 94, 0], [204, 121, 167], [15, 0, 255], [0, 0, 0],
        [0, 0, 120],
    ],
)  # fmt: skip
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
