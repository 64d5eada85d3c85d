# PVT-Small without attention on ImageNet-1K: LIT, Table 5.
_base_ = 'pvt_small_msa_in1k.py'
model = dict(backbone=dict(attention=[None, None, None, None]))
