# PVT-Tiny (SPM) with residual guide tokens, which section 5.3 tried and left out: no row in any paper.
_base_ = 'pvt_tiny_spm_in1k.py'
model = dict(backbone=dict(merging=dict(guide_residual=True)))
