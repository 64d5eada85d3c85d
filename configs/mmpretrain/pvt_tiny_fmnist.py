# PVT-Tiny on Fashion-MNIST, from scratch: a run on small real data with no row in any paper.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/fmnist.py',
    '_base_/schedules/small_data.py',
    '_base_/small_runtime.py',
]
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(
        type='spm_mm.PVT', arch='tiny', out_type='cls_token', img_size=56, drop_path_rate=0.1
    ),
    head=dict(in_channels=512, num_classes=10),
    train_cfg=None,
)
