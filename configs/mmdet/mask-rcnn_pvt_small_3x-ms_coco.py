# PVT-Small, Mask R-CNN 3x with multi-scale training on COCO: SG-Former, Table 4; PaCa, Table 2, which
# prints these values under 1x.
_base_ = 'mask-rcnn_pvt_tiny_3x-ms_coco.py'
model = dict(backbone=dict(arch='small'))
