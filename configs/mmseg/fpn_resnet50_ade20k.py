# ResNet-50, Semantic FPN on ADE20K: SPM, Table 3; HAFA, Table 2; SG-Former, Table 5; LIT, Table
# 8. They quote it; the recipe is the one of the other rows.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/ade20k_multiple32.py',
    '_base_/schedules/pvt_40k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='ResNet',
        depth=50,
        norm_cfg=dict(type='SyncBN'),
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
