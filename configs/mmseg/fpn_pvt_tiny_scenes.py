# PVT-Tiny, Semantic FPN on composed scenes: a quick run with no row in any paper.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/scenes.py',
    '_base_/schedules/small_data.py',
    '_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(type='spm_mm.PVT', arch='tiny', img_size=128, drop_path_rate=0.1),
    decode_head=dict(num_classes=12),
)
max_iters = 160
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=20, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
