# Swin-T with its own merging, Mask R-CNN 1x on COCO, matched: no row in any paper.
_base_ = '_base_/matched.py'
model = dict(
    backbone=dict(type='spm_mm.SwinTransformer', arch='tiny'),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
