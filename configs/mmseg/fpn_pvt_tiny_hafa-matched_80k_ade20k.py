# PVT-Tiny with HAFA, Semantic FPN on ADE20K, matched: no row in any paper.
_base_ = 'fpn_pvt_tiny_matched_80k_ade20k.py'
laa = dict(type='spm_mm.DeformableMerging', norm_cfg=dict(type='SyncBN'))
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia]))
