# LIT-S, Semantic FPN on ADE20K: LIT, Table 8. Output norms and tables for 512 pixels are those of the
# official segmentation code.
_base_ = 'fpn_lit_tiny_80k_ade20k.py'
model = dict(
    backbone=dict(arch='small', img_size=512, out_norms=[0, 1, 2, 3], drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
