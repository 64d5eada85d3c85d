# PVT-Tiny (SPM) with a guide kernel of 31: SPM, Table 7.
_base_ = 'pvt_tiny_spm_in1k.py'
model = dict(backbone=dict(merging=dict(guide_kernel_size=31)))
