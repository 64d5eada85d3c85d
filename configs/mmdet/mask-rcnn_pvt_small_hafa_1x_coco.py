# PVT-Small (HAFA), Mask R-CNN 1x on COCO: HAFA, Table 3; SPM, Table 2.
# 16 images a step and lr 1e-4 are HAFA's own (section 4.3); its official config has 2e-4.
_base_ = 'mask-rcnn_pvt_tiny_hafa_1x_coco.py'
model = dict(backbone=dict(arch='small'))
