# PVT-Large (HAFA), Semantic FPN on ADE20K: HAFA, Table 2.
# 16 images a step and lr 1e-4 are HAFA's own (section 4.2); its official config is plain PVT, and
# its dense Medium and Large have no stochastic depth.
_base_ = 'fpn_pvt_tiny_hafa_ade20k.py'
model = dict(backbone=dict(arch='large', drop_path_rate=0.0))
