# PaCa-ViT-Base on ImageNet-1K: PaCa, Table 1.
_base_ = 'pacavit_tiny_in1k.py'
model = dict(backbone=dict(arch='base', drop_path_rate=0.5), head=dict(in_channels=512))
