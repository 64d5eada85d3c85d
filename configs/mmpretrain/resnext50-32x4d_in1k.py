# ResNeXt-50 (32x4d) on ImageNet-1K: SPM, Table 1; HAFA, Table 1. They quote it; the recipe is
# that of PVT, from whose tables most of its figures come.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224_repeated.py',
    '_base_/schedules/pvt_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='ResNeXt', depth=50, groups=32, width_per_group=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=2048),
)
