# PVT-Large (HAFA) on ImageNet-1K: HAFA, Table 1.
_base_ = 'pvt_large_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia], out_type='avg_featmap'))
