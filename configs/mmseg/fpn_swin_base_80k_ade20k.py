# Swin-B, Semantic FPN on ADE20K, 80k iterations: SG-Former, Table 5. They quote it; the recipe is
# the one of the other rows.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/fpn_80k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SwinTransformer',
        arch='base',
        drop_path_rate=0.5,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
train_dataloader = dict(batch_size=2)
