# PaCa-ViT-Small, clustering by an MLP, Mask R-CNN 1x on COCO: PaCa, Table 2.
_base_ = 'mask-rcnn_pacavit_small_1x_coco.py'
model = dict(backbone=dict(clustering='mlp'))
