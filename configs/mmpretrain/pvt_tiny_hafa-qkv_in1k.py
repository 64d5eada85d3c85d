# PVT-Tiny (HAFA) with clustered queries, keys and values on ImageNet-1K: HAFA, Table 5.
_base_ = 'pvt_tiny_hafa_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging', context='clusters')
model = dict(backbone=dict(merging=[laa, laa, sia]))
