# LIT-S with Swin's uniform merging on ImageNet-1K: LIT, Table 3.
_base_ = 'lit_small_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.SwinMerging')))
