# PVT-Tiny (SPM) with 7x7 average pooling for the guide token generator: SPM, Table 5.
_base_ = 'pvt_tiny_spm_in1k.py'
model = dict(backbone=dict(merging=dict(guide='avg_pool')))
