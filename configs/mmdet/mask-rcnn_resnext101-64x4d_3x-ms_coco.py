# ResNeXt-101 (64x4d), Mask R-CNN 3x with multi-scale training on COCO: SG-Former, Table 4. They
# quote it; the recipe is the one of the other rows.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/coco_instance_ms.py',
    '_base_/schedules/coco_3x_ms.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=64,
        base_width=4,
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnext101_64x4d'),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
