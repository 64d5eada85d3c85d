# PVT-Tiny with SPM after stage 3 alone: SPM, Table 8.
_base_ = 'pvt_tiny_spm_in1k.py'
conv = dict(type='spm_mm.ConvMerging')
spm = dict(type='spm_mm.StepwiseMerging')
model = dict(backbone=dict(merging=[conv, conv, spm]))
