# PVTv2-B2-Li on ImageNet-1K: PaCa, Table 1, whose printed gains of PaCa-Small are relative to it.
_base_ = 'pvtv2_b2_in1k.py'
model = dict(backbone=dict(arch='b2-li'))
