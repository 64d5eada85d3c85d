# PVT-Tiny (HAFA) with Semantic FPN on ADE20K, clustering the queries alone as section 3.3 says: all
# tokens stay keys and values of the first block behind, where the released code reads a grid of
# stride 2. It has no row in any paper.
_base_ = 'fpn_pvt_tiny_hafa_ade20k.py'
laa = dict(type='spm_mm.DeformableMerging', norm_cfg=dict(type='SyncBN'))
sia = dict(type='spm_mm.ClusterMerging', context='dense')
model = dict(backbone=dict(merging=[laa, laa, sia]))
