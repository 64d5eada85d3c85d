# PVTv2-B3, Mask R-CNN 1x on COCO: PaCa, Table 2.
_base_ = 'mask-rcnn_pvtv2_b1_1x_coco.py'
model = dict(backbone=dict(arch='b3'))
