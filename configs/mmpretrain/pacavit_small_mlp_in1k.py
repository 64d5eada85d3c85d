# PaCa-ViT-Small, clustering by an MLP, on ImageNet-1K: PaCa, Table 1.
_base_ = 'pacavit_small_in1k.py'
model = dict(backbone=dict(clustering='mlp'))
