# PVT-Medium (HAFA) on ImageNet-1K: no row in any paper. HAFA, Table 1, has Tiny, Small and Large;
# this is the size between them, beside pvt_medium_spm_in1k.py.
_base_ = 'pvt_medium_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia], out_type='avg_featmap'))
