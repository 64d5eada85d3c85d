# PVTv2-B1 on ImageNet-1K: HAFA, Table 6; PaCa, Table 1. Neither names a recipe: PVT's is assumed, with
# the drop path rate of PVTv2's official code.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224_repeated.py',
    '_base_/schedules/pvt_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='spm_mm.PVTv2', arch='b1', out_type='avg_featmap', drop_path_rate=0.1),
    head=dict(in_channels=512),
)
