# PVT-Tiny (HAFA) with Mask R-CNN 1x on COCO, clustering the queries alone as section 3.3 says: all
# tokens stay keys and values of the first block behind, where the released code reads a grid of
# stride 2. It has no row in any paper.
_base_ = 'mask-rcnn_pvt_tiny_hafa_1x_coco.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging', context='dense')
model = dict(backbone=dict(merging=[laa, laa, sia]))
