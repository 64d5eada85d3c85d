# LIT-Ti with PVT's uniform merging on ImageNet-1K: LIT, Table 3, and Table 5 (plain attention,
# removed from stages 1 and 2).
_base_ = 'lit_tiny_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.ConvMerging')))
