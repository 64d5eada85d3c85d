# PaCa-ViT-Tiny with the PaCa head on ADE20K: PaCa, Table 3. 200 clusters are section 4.3's, 100 are
# ImageNet's.
_base_ = [
    '_base_/models/paca_head.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/paca_160k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.PaCaViT',
        arch='tiny',
        num_clusters=(200, 200, 200, 0),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    decode_head=dict(in_channels=[96, 192, 320, 384]),
)
train_dataloader = dict(batch_size=2)
