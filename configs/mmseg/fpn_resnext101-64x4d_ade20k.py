# ResNeXt-101 (64x4d), Semantic FPN on ADE20K: HAFA, Table 2; SG-Former, Table 5. They quote it;
# the recipe is the one of the other rows.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/ade20k_multiple32.py',
    '_base_/schedules/pvt_40k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=64,
        base_width=4,
        norm_cfg=dict(type='SyncBN'),
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnext101_64x4d'),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
