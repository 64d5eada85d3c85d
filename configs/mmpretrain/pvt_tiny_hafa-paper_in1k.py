# PVT-Tiny (HAFA) on ImageNet-1K by section 3.3 as printed: queries alone are clustered,
# by plain distances (Eq. 2 and 3). It has no row in any paper, whose tables are the official code's.
_base_ = 'pvt_tiny_hafa-dense_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging', context='dense', scaled_distance=False)
model = dict(backbone=dict(merging=[laa, laa, sia]))
