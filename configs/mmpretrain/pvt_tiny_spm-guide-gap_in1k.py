# PVT-Tiny (SPM) with global average pooling for the guide token: SPM, Table 6.
_base_ = 'pvt_tiny_spm_in1k.py'
model = dict(backbone=dict(merging=dict(guide='gap')))
