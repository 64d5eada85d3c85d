# PaCa-ViT-Small with the external teacher and the PaCa head on ADE20K: PaCa, Table 3.
_base_ = 'paca_pacavit_small_ade20k.py'
model = dict(backbone=dict(arch='small-ec', num_clusters=(200, 200, 200, 200)))
