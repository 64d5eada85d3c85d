# PVT-Tiny (SPM) with a 3x3 convolution for MSA: SPM, Table 5.
_base_ = 'pvt_tiny_spm_in1k.py'
model = dict(backbone=dict(merging=dict(aggregation='conv')))
