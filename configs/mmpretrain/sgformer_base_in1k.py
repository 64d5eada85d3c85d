# SG-Former-Base on ImageNet-1K: SG-Former, Table 2. The drop path rate is the official code's.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224_sgformer.py',
    '_base_/schedules/sgformer_300e.py',
    '_base_/ema_runtime.py',
]
model = dict(
    backbone=dict(type='spm_mm.SGFormer', arch='base', out_type='avg_featmap', drop_path_rate=0.4),
    head=dict(in_channels=768),
)
