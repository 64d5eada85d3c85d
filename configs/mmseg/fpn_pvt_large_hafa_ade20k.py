# PVT-Large (HAFA), Semantic FPN on ADE20K: HAFA, Table 2.
# 16 images a step and lr 1e-4 are HAFA's own (section 4.2); its official config is plain PVT.
_base_ = 'fpn_pvt_tiny_hafa_ade20k.py'
model = dict(backbone=dict(arch='large'))
