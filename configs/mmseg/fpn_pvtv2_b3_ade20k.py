# PVTv2-B3, Semantic FPN on ADE20K: PaCa, Table 3.
_base_ = 'fpn_pvtv2_b1_ade20k.py'
model = dict(backbone=dict(arch='b3'))
