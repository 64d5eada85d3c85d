# ResNet-50, Mask R-CNN 1x on COCO: SPM, Table 2; HAFA, Table 3; PaCa, Table 2; SG-Former, Table
# 4; LIT, Table 7. They quote it; the recipe is the one of the other rows.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/coco_instance.py',
    '_base_/schedules/pvt_1x.py',
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
optim_wrapper = dict(optimizer=dict(lr=1e-4))
