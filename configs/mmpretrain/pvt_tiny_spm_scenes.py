# PVT-Tiny (SPM) on composed scenes: a quick run with no row in any paper.
_base_ = 'pvt_tiny_scenes.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.StepwiseMerging')))
