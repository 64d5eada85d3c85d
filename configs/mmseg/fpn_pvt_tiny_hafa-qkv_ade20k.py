# PVT-Tiny (HAFA) with clustered queries, keys and values, Semantic FPN on ADE20K: HAFA, Table 5.
_base_ = 'fpn_pvt_tiny_hafa_ade20k.py'
laa = dict(type='spm_mm.DeformableMerging', norm_cfg=dict(type='SyncBN'))
sia = dict(type='spm_mm.ClusterMerging', context='clusters')
model = dict(backbone=dict(merging=[laa, laa, sia]))
