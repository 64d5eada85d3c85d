# PVTv2-B1 with its own merging, Mask R-CNN 1x on COCO, matched: no row in any paper.
_base_ = '_base_/matched.py'
model = dict(backbone=dict(type='spm_mm.PVTv2', arch='b1'))
