# PVT-Large on ImageNet-1K: HAFA, Table 1; PaCa, Table 1; SG-Former, Table 2; LIT, Table 2.
_base_ = 'pvt_medium_in1k.py'
model = dict(backbone=dict(arch='large'))
