# Swin-S, Semantic FPN on ADE20K, 80k iterations: SG-Former, Table 5. They quote it; the recipe is
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
        arch='small',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
train_dataloader = dict(batch_size=2)
