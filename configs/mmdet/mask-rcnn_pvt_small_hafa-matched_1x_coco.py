# PVT-Small with HAFA, Mask R-CNN 1x on COCO, matched: no row in any paper.
_base_ = 'mask-rcnn_pvt_small_matched_1x_coco.py'
laa = dict(type='spm_mm.DeformableMerging', norm_cfg=dict(type='SyncBN'))
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia]))
