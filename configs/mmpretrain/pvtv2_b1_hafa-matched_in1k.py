# PVTv2-B1 with HAFA on ImageNet-1K, matched: no row in any paper.
_base_ = 'pvtv2_b1_matched_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia]))
