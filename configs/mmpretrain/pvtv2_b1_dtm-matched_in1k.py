# PVTv2-B1 with deformable merging (LIT) on ImageNet-1K, matched: no row in any paper.
_base_ = 'pvtv2_b1_matched_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.DeformableMerging')))
