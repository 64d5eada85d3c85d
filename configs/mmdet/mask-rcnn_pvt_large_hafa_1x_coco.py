# PVT-Large (HAFA), Mask R-CNN 1x on COCO: HAFA, Table 3.
# 16 images a step and lr 1e-4 are HAFA's own (section 4.3); there is no official config.
_base_ = 'mask-rcnn_pvt_tiny_hafa_1x_coco.py'
model = dict(backbone=dict(arch='large', drop_path_rate=0.0))
