# PVT-Tiny (SPM) on Fashion-MNIST, from scratch: a run on small real data with no row in any paper.
_base_ = 'pvt_tiny_fmnist.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.StepwiseMerging')))
