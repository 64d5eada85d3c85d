# PaCa-ViT-Small with 2/2/2/0 clusters, Mask R-CNN 1x on COCO: PaCa, Table 4.
_base_ = 'mask-rcnn_pacavit_small_1x_coco.py'
model = dict(backbone=dict(num_clusters=(2, 2, 2, 0)))
