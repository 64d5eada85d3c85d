# PVTv2-B2 on ImageNet-1K: HAFA, Table 6; PaCa, Table 1.
_base_ = 'pvtv2_b1_in1k.py'
model = dict(backbone=dict(arch='b2'))
