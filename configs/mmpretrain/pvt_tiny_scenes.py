# PVT-Tiny on composed scenes: a quick run with no row in any paper.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/scenes.py',
    '_base_/schedules/small_data.py',
    '_base_/small_runtime.py',
]
model = dict(
    data_preprocessor=dict(num_classes=8),
    backbone=dict(
        type='spm_mm.PVT', arch='tiny', out_type='cls_token', img_size=128, drop_path_rate=0.1
    ),
    head=dict(in_channels=512, num_classes=8),
    train_cfg=None,
)
auto_scale_lr = dict(base_batch_size=16)
