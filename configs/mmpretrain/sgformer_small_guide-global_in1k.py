# SG-Former-Small, significance from the merged tokens alone: SG-Former, Table 7.
_base_ = 'sgformer_small_in1k.py'
model = dict(backbone=dict(guide='global'))
