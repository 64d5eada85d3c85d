# SegFormer-B1 on ADE20K: MMSegmentation's recipe, with no row in any paper of this suite.
_base_ = 'segformer_mit_b0_ade20k.py'
model = dict(
    backbone=dict(arch='mit-b1'),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
)
