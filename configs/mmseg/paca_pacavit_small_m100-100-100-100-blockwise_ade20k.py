# PaCa-ViT-Small, every block with its own clusters, with the PaCa head on ADE20K: PaCa, Table 4. They
# are 100 on ImageNet and 200 here.
_base_ = 'paca_pacavit_small_m100-100-100-100_ade20k.py'
model = dict(backbone=dict(clustering_interval=1))
