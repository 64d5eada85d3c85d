# PaCa-ViT-Small with 49/49/49/0 clusters on ImageNet-1K: PaCa, Table 4.
_base_ = 'pacavit_small_in1k.py'
model = dict(backbone=dict(num_clusters=(49, 49, 49, 0)))
