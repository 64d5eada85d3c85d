# SG-Former-Small, the same significance for all tokens: SG-Former, Table 7.
_base_ = 'sgformer_small_in1k.py'
model = dict(backbone=dict(guide='manual'))
