# PaCa-ViT-Base, UperNet on ADE20K: PaCa, Table 3.
_base_ = 'upernet_pacavit_tiny_ade20k.py'
model = dict(
    backbone=dict(arch='base'),
    decode_head=dict(in_channels=[96, 192, 384, 512]),
    auxiliary_head=dict(in_channels=384),
)
