# ResNet-50, Mask R-CNN 3x with multi-scale training on COCO: SG-Former, Table 4. They quote it;
# the recipe is the one of the other rows.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/coco_instance_ms.py',
    '_base_/schedules/coco_3x_ms.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='ResNet',
        depth=50,
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
