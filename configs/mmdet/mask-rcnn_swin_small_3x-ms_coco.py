# Swin-S, Mask R-CNN 3x with multi-scale training on COCO: SG-Former, Table 4. They quote it; the
# recipe is MMDetection's.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/coco_instance_ms.py',
    '_base_/schedules/coco_3x_ms.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SwinTransformer',
        arch='small',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
