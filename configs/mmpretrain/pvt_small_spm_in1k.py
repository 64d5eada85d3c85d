# PVT-Small (SPM) on ImageNet-1K: SPM, Table 1.
_base_ = 'pvt_small_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.StepwiseMerging')))
