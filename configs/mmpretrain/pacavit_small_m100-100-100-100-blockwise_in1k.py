# PaCa-ViT-Small, every block with 100 clusters of its own, on ImageNet-1K: PaCa, Table 4.
_base_ = 'pacavit_small_m100-100-100-100_in1k.py'
model = dict(backbone=dict(clustering_interval=1))
