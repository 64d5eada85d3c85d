# PaCa-ViT-Base with the external teacher and the PaCa head on ADE20K: PaCa, Table 3.
_base_ = 'paca_pacavit_base_ade20k.py'
model = dict(backbone=dict(arch='base-ec', num_clusters=(200, 200, 200, 200)))
