# PVT-Tiny (SPM) with a 2x2 convolution for GLE: SPM, Table 5.
_base_ = 'pvt_tiny_spm_in1k.py'
model = dict(backbone=dict(merging=dict(enhancement='conv')))
