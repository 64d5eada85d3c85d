# PVT-Tiny (SPM) on ImageNet-1K: SPM, Tables 1 and 5 to 8.
_base_ = 'pvt_tiny_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.StepwiseMerging')))
