# LIT-M on ImageNet-1K: LIT, Table 2.
_base_ = 'lit_small_in1k.py'
model = dict(backbone=dict(arch='medium', drop_path_rate=0.3))
