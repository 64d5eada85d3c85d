# PaCa-ViT-Small (2/2/2/0 clusters on ImageNet) with the PaCa head on ADE20K: PaCa, Table 4.
# Here every stage that has clusters has 200: rows of the table differ in their ImageNet weights alone.
_base_ = 'paca_pacavit_small_ade20k.py'
model = dict(backbone=dict(num_clusters=(200, 200, 200, 0)))
