# PaCa-ViT-Tiny on ImageNet-1K: PaCa, Table 1. The recipe is that of its official code.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224_crop90.py',
    '_base_/schedules/paca_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='spm_mm.PaCaViT', arch='tiny', out_type='avg_featmap', drop_path_rate=0.1),
    head=dict(in_channels=384),
)
