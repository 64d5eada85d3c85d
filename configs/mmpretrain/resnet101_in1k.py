# ResNet-101 on ImageNet-1K: SG-Former, Table 2; LIT, Table 2. They quote it; the recipe is that
# of PVT, from whose tables most of its figures come.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224_repeated.py',
    '_base_/schedules/pvt_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='ResNet', depth=101),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=2048),
)
