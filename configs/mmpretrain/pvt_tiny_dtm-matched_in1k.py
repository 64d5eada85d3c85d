# PVT-Tiny with deformable merging (LIT) on ImageNet-1K, matched: no row in any paper.
_base_ = 'pvt_tiny_matched_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.DeformableMerging')))
