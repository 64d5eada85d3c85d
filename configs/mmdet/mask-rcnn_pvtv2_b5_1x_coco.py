# PVTv2-B5, Mask R-CNN 1x on COCO: PaCa, Table 2. 8 images a step and lr 2e-4 / 1.4, as PVTv2's official
# detection code.
_base_ = 'mask-rcnn_pvtv2_b4_1x_coco.py'
model = dict(backbone=dict(arch='b5'))
