# PaCa-ViT-Base with the external clustering teacher, Mask R-CNN 1x on COCO: PaCa, Table 2.
_base_ = 'mask-rcnn_pacavit_base_1x_coco.py'
model = dict(backbone=dict(arch='base-ec'))
