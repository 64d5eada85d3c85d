# Swin-T, Mask R-CNN 3x with multi-scale training on COCO: SG-Former, Table 4. The schedule is that of
# PVTv2-B2's official config, which differs from Swin's own in warm-up alone (500 for 1000 iterations).
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/coco_instance_ms.py',
    '_base_/schedules/coco_3x_ms.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SwinTransformer',
        arch='tiny',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
