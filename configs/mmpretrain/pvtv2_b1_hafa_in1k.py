# PVTv2-B1 (HAFA) on ImageNet-1K: HAFA, Tables 4 and 6.
_base_ = 'pvtv2_b1_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia]))
