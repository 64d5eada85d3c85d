# PVTv2-B5 on ImageNet-1K: PaCa, Table 1.
_base_ = 'pvtv2_b3_in1k.py'
model = dict(backbone=dict(arch='b5'))
