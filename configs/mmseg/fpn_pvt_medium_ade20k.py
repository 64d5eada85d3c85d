# PVT-Medium, Semantic FPN on ADE20K: SPM, Table 3; PaCa, Table 3; SG-Former, Table 5.
_base_ = 'fpn_pvt_tiny_ade20k.py'
model = dict(backbone=dict(arch='medium'))
