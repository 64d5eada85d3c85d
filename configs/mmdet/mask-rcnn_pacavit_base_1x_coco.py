# PaCa-ViT-Base, Mask R-CNN 1x on COCO: PaCa, Table 2.
_base_ = 'mask-rcnn_pacavit_tiny_1x_coco.py'
model = dict(backbone=dict(arch='base'), neck=dict(in_channels=[96, 192, 384, 512]))
