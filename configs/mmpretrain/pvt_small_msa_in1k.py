# PVT-Small with plain attention in all stages on ImageNet-1K: LIT, Table 5.
_base_ = 'pvt_small_in1k.py'
model = dict(backbone=dict(attention=['full', 'full', 'full', 'full']))
