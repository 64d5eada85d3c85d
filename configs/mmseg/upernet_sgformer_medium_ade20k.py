# SG-Former-Medium, UperNet on ADE20K: SG-Former, Table 5, single scale and, with tools/test.py --tta,
# multi-scale. The paper does not state the drop path rate: it is that of ImageNet.
_base_ = [
    '_base_/models/upernet_head.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/upernet_160k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SGFormer',
        arch='medium',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
train_dataloader = dict(batch_size=2)
