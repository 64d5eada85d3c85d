# PVT-Medium, Mask R-CNN 3x with multi-scale training on COCO: SG-Former, Table 4.
_base_ = 'mask-rcnn_pvt_tiny_3x-ms_coco.py'
model = dict(backbone=dict(arch='medium', drop_path_rate=0.0))
