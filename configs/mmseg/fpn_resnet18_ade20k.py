# ResNet-18, Semantic FPN on ADE20K: SPM, Table 3; HAFA, Table 2. They quote it; the recipe is the
# one of the other rows.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/ade20k_multiple32.py',
    '_base_/schedules/pvt_40k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='ResNet',
        depth=18,
        norm_cfg=dict(type='SyncBN'),
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
