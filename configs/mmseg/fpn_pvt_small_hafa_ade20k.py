# PVT-Small (HAFA), Semantic FPN on ADE20K: HAFA, Table 2; SPM, Table 3.
# 16 images a step and lr 1e-4 are HAFA's own (section 4.2); its official config has 2e-4 and PVT-Tiny.
_base_ = 'fpn_pvt_tiny_hafa_ade20k.py'
model = dict(backbone=dict(arch='small'))
