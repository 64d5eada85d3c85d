# PVT-Medium on ImageNet-1K: SPM, Table 1; PaCa, Table 1; SG-Former, Table 2; LIT, Table 2.
_base_ = 'pvt_tiny_in1k.py'
model = dict(backbone=dict(arch='medium', drop_path_rate=0.3))
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
