# PVT-Small (HAFA) on ImageNet-1K: HAFA, Table 1; SPM, Table 1.
_base_ = 'pvt_small_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia], out_type='avg_featmap'))
