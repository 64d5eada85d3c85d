# PaCa-ViT-Tiny, UperNet on ADE20K: PaCa, Table 3. 200 clusters are section 4.3's, 100 are ImageNet's;
# mixed precision is the official script's.
_base_ = [
    '_base_/models/upernet_head.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/upernet_160k.py',
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
    auxiliary_head=dict(in_channels=320),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic')
