# LIT-S on ImageNet-1K: LIT, Table 2.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224.py',
    '_base_/schedules/lit_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='spm_mm.LIT', arch='small', out_type='avg_featmap', drop_path_rate=0.2),
    head=dict(in_channels=768),
)
