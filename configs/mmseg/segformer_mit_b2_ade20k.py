# SegFormer-B2 on ADE20K: MMSegmentation's recipe, with no row in any paper of this suite.
_base_ = 'segformer_mit_b1_ade20k.py'
model = dict(backbone=dict(arch='mit-b2'))
