# PaCa-ViT-Base with the external clustering teacher on ImageNet-1K: PaCa, Table 1.
_base_ = 'pacavit_base_in1k.py'
model = dict(backbone=dict(arch='base-ec', drop_path_rate=0.1))
