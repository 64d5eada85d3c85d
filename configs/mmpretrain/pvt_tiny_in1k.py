# PVT-Tiny on ImageNet-1K: SPM, Tables 1 and 8; HAFA, Table 1; PaCa, Table 1; LIT, Table 2.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224_repeated.py',
    '_base_/schedules/pvt_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='spm_mm.PVT', arch='tiny', out_type='cls_token', drop_path_rate=0.1),
    head=dict(in_channels=512),
)
