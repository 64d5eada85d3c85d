# PVT-Tiny (SPM) with SKNet's dynamic weighting in the place of GLE's attention, which section 5.1
# tried: no row in any paper.
_base_ = 'pvt_tiny_spm_in1k.py'
model = dict(backbone=dict(merging=dict(weighting='dynamic')))
