# PVT-Tiny (SPM) with a guide kernel of 3: SPM, Table 7.
_base_ = 'pvt_tiny_spm_in1k.py'
model = dict(backbone=dict(merging=dict(guide_kernel_size=3)))
