# PaCa-ViT-Small, 100 clusters in every block, Mask R-CNN 1x on COCO: PaCa, Table 4.
_base_ = 'mask-rcnn_pacavit_small_m100-100-100-100_1x_coco.py'
model = dict(backbone=dict(clustering_interval=1))
