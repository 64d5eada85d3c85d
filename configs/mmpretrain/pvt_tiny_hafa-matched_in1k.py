# PVT-Tiny with HAFA on ImageNet-1K, matched: no row in any paper.
_base_ = 'pvt_tiny_matched_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia]))
