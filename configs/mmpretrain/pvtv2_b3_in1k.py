# PVTv2-B3 on ImageNet-1K: PaCa, Table 1.
_base_ = 'pvtv2_b1_in1k.py'
model = dict(backbone=dict(arch='b3', drop_path_rate=0.3))
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
