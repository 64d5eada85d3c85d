# Swin-B, UperNet on ADE20K: PaCa, Table 3; SG-Former, Table 5. They quote it; the recipe is the
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
        arch='base',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
train_dataloader = dict(batch_size=2)
