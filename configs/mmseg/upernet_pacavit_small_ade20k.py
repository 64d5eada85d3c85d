# PaCa-ViT-Small, UperNet on ADE20K: PaCa, Table 3.
_base_ = 'upernet_pacavit_tiny_ade20k.py'
model = dict(backbone=dict(arch='small'))
