# PaCa-ViT-Small with the PaCa head on ADE20K: PaCa, Tables 3 and 4.
_base_ = 'paca_pacavit_tiny_ade20k.py'
model = dict(backbone=dict(arch='small'))
