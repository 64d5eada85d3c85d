# PVT-Tiny (HAFA) with clustered queries, keys and values, Mask R-CNN 1x on COCO: HAFA, Table 5.
_base_ = 'mask-rcnn_pvt_tiny_hafa_1x_coco.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging', context='clusters')
model = dict(backbone=dict(merging=[laa, laa, sia]))
