# PVT-Tiny (HAFA) on ImageNet-1K, clustering the queries alone as section 3.3 says: all tokens stay
# keys and values of the first block behind, where the released code reads a grid of stride 2. It
# has no row in any paper.
_base_ = 'pvt_tiny_hafa_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging', context='dense')
model = dict(backbone=dict(merging=[laa, laa, sia]))
