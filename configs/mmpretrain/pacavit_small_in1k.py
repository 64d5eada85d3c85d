# PaCa-ViT-Small on ImageNet-1K: PaCa, Tables 1 and 4.
_base_ = 'pacavit_tiny_in1k.py'
model = dict(backbone=dict(arch='small'))
