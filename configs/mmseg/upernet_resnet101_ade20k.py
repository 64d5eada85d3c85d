# ResNet-101, UperNet on ADE20K: SG-Former, Table 5. They quote it; the recipe is the one of the
# other rows.
_base_ = [
    '_base_/models/upernet_head.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/upernet_160k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='ResNet',
        depth=101,
        norm_cfg=dict(type='SyncBN'),
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'),
    ),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=2)
