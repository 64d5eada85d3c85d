# PVT-Tiny (HAFA) with Mask R-CNN 1x on COCO by section 3.3 as printed: queries alone are clustered,
# by plain distances (Eq. 2 and 3). It has no row in any paper, whose tables are the official code's.
_base_ = 'mask-rcnn_pvt_tiny_hafa-dense_1x_coco.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging', context='dense', scaled_distance=False)
model = dict(backbone=dict(merging=[laa, laa, sia]))
