# DeiT-Ti on ImageNet-1K: SPM, Table 1; HAFA, Table 1; PaCa, Table 1; LIT, Table 2. They quote it;
# the recipe is that of PVT, from whose tables most of its figures come.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224_repeated.py',
    '_base_/schedules/pvt_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='VisionTransformer', arch='deit-tiny', img_size=224, patch_size=16, drop_path_rate=0.1
    ),
    head=dict(in_channels=192),
)
