# PaCa-ViT-Tiny with the PaCa head on CamVid, from scratch: a run on small real data with no row in any
# paper.
_base_ = [
    '_base_/models/paca_head.py',
    '_base_/datasets/camvid.py',
    '_base_/schedules/small_data.py',
    '_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(160, 160)),
    backbone=dict(type='spm_mm.PaCaViT', arch='tiny', drop_path_rate=0.1),
    decode_head=dict(in_channels=[96, 192, 320, 384], num_classes=11),
)
