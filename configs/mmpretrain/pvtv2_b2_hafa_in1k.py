# PVTv2-B2 (HAFA) on ImageNet-1K: HAFA, Table 6.
_base_ = 'pvtv2_b2_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia]))
