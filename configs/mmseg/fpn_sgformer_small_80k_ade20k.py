# SG-Former-Small, Semantic FPN on ADE20K, 80k iterations: SG-Former, Table 5. The paper does not state
# the drop path rate: it is that of ImageNet.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/fpn_80k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SGFormer',
        arch='small',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
train_dataloader = dict(batch_size=2)
