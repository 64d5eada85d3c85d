# PVTv2-B1 with deformable merging (LIT), Semantic FPN on ADE20K, matched: no row in any paper.
_base_ = 'fpn_pvtv2_b1_matched_80k_ade20k.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.DeformableMerging', norm_cfg=dict(type='SyncBN')))
)
