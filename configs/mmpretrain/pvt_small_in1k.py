# PVT-Small on ImageNet-1K: SPM, Tables 1 and 5; HAFA, Table 1; PaCa, Table 1; SG-Former, Table 2; LIT,
# Tables 2 to 5.
_base_ = 'pvt_tiny_in1k.py'
model = dict(backbone=dict(arch='small'))
