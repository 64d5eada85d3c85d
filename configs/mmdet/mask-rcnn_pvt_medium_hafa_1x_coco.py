# PVT-Medium (HAFA), Mask R-CNN 1x on COCO: no row in any paper. The recipe is that of the other sizes.
_base_ = 'mask-rcnn_pvt_tiny_hafa_1x_coco.py'
model = dict(backbone=dict(arch='medium', drop_path_rate=0.0))
