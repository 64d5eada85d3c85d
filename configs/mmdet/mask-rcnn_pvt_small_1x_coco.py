# PVT-Small, Mask R-CNN 1x on COCO: SPM, Table 2; HAFA, Table 3; SG-Former, Table 4; LIT, Table 7.
_base_ = 'mask-rcnn_pvt_tiny_1x_coco.py'
model = dict(backbone=dict(arch='small'))
