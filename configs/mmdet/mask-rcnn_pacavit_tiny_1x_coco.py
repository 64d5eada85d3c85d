# PaCa-ViT-Tiny, Mask R-CNN 1x on COCO: PaCa, Table 2. The clusters stay those of ImageNet.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/coco_instance_ms.py',
    '_base_/schedules/paca_1x.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.PaCaViT',
        arch='tiny',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(in_channels=[96, 192, 320, 384]),
)
