# SG-Former-Small, Semantic FPN on CamVid, from scratch: small real data with no row in any paper.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/camvid.py',
    '_base_/schedules/small_data.py',
    '_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(160, 160)),
    backbone=dict(type='spm_mm.SGFormer', arch='small', drop_path_rate=0.1),
    neck=dict(in_channels=[64, 128, 256, 512]),
    decode_head=dict(num_classes=11),
)
