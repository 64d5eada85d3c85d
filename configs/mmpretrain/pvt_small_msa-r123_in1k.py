# PVT-Small with plain attention, removed from stages 1 to 3, on ImageNet-1K: LIT, Table 5.
_base_ = 'pvt_small_msa_in1k.py'
model = dict(backbone=dict(attention=[None, None, None, 'full']))
