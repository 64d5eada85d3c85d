# SG-Former-Small on ImageNet-1K: SG-Former, Tables 2 and 7. The drop path rate is the official code's.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224_sgformer.py',
    '_base_/schedules/sgformer_300e.py',
    '_base_/ema_runtime.py',
]
model = dict(
    backbone=dict(type='spm_mm.SGFormer', arch='small', out_type='avg_featmap', drop_path_rate=0.1),
    head=dict(in_channels=512),
)
