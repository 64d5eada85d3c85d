# PaCa-ViT-Small, Mask R-CNN 1x on COCO: PaCa, Tables 2 and 4.
_base_ = 'mask-rcnn_pacavit_tiny_1x_coco.py'
model = dict(backbone=dict(arch='small'))
