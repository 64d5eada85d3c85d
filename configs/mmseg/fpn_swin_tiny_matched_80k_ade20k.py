# Swin-T with its own merging, Semantic FPN on ADE20K, matched: no row in any paper.
_base_ = '_base_/matched.py'
model = dict(
    backbone=dict(type='spm_mm.SwinTransformer', arch='tiny'),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
