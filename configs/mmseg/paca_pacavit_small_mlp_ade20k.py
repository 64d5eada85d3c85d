# PaCa-ViT-Small, clustering by an MLP, with the PaCa head on ADE20K: PaCa, Table 3.
_base_ = 'paca_pacavit_small_ade20k.py'
model = dict(backbone=dict(clustering='mlp'))
