# PVT-Small, Semantic FPN on ADE20K: SPM, Table 3; HAFA, Table 2; PaCa, Table 3; SG-Former, Table 5;
# LIT, Table 8.
_base_ = 'fpn_pvt_tiny_ade20k.py'
model = dict(backbone=dict(arch='small'))
