# PVT-Medium, Mask R-CNN 1x on COCO: SPM, Table 2; PaCa, Table 2; SG-Former, Table 4. PVT's official
# detection code has no stochastic depth in Medium and Large.
_base_ = 'mask-rcnn_pvt_tiny_1x_coco.py'
model = dict(backbone=dict(arch='medium', drop_path_rate=0.0))
