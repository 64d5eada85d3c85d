# PVT-Medium (HAFA), Semantic FPN on ADE20K: no row in any paper. The recipe is that of the other sizes.
_base_ = 'fpn_pvt_tiny_hafa_ade20k.py'
model = dict(backbone=dict(arch='medium', drop_path_rate=0.0))
