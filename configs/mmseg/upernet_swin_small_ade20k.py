# Swin-S, UperNet on ADE20K: PaCa, Table 3; SG-Former, Table 5. They quote it; the recipe is the
# one of the other rows.
_base_ = [
    '_base_/models/upernet_head.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/upernet_160k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SwinTransformer',
        arch='small',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
train_dataloader = dict(batch_size=2)
