# PVT-Small with plain attention, removed from stage 1, on ImageNet-1K: LIT, Table 5.
_base_ = 'pvt_small_msa_in1k.py'
model = dict(backbone=dict(attention=[None, 'full', 'full', 'full']))
