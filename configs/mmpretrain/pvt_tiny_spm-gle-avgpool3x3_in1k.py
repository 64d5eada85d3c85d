# PVT-Tiny (SPM) with 3x3 average pooling for GLE: SPM, Table 5.
_base_ = 'pvt_tiny_spm_in1k.py'
model = dict(backbone=dict(merging=dict(enhancement='avg_pool')))
