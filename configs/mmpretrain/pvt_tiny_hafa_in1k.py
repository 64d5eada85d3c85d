# PVT-Tiny (HAFA) on ImageNet-1K: HAFA, Tables 1 and 5; SPM, Table 1.
# The merged tokens are averaged, there is no class token; offset layers learn like all others, as
# in the official code.
_base_ = 'pvt_tiny_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia], out_type='avg_featmap'))
