# PaCa-ViT-Small with 2/2/2/0 clusters on ImageNet-1K: PaCa, Table 4.
_base_ = 'pacavit_small_in1k.py'
model = dict(backbone=dict(num_clusters=(2, 2, 2, 0)))
