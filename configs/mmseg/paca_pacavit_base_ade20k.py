# PaCa-ViT-Base with the PaCa head on ADE20K: PaCa, Table 3.
_base_ = 'paca_pacavit_tiny_ade20k.py'
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.5),
    decode_head=dict(in_channels=[96, 192, 384, 512]),
)
