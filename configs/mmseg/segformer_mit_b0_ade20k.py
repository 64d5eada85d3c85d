# SegFormer-B0 on ADE20K: MMSegmentation's recipe, with no row in any paper of this suite.
_base_ = [
    '_base_/models/segformer_head.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/segformer_160k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.PVTv2',
        arch='mit-b0',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    decode_head=dict(in_channels=[32, 64, 160, 256]),
)
train_dataloader = dict(batch_size=2)
