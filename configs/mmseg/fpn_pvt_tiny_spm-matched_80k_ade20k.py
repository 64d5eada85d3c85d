# PVT-Tiny with stepwise merging (SPM), Semantic FPN on ADE20K, matched: no row in any paper.
_base_ = 'fpn_pvt_tiny_matched_80k_ade20k.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.StepwiseMerging', norm_cfg=dict(type='SyncBN')))
)
