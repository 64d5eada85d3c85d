# PaCa-ViT-Small with 100/81/64/49 clusters on ImageNet-1K: PaCa, Table 4.
_base_ = 'pacavit_small_in1k.py'
model = dict(backbone=dict(num_clusters=(100, 81, 64, 49)))
