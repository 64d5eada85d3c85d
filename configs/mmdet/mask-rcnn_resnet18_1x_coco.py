# ResNet-18, Mask R-CNN 1x on COCO: SPM, Table 2; HAFA, Table 3. They quote it; the recipe is the
# one of the other rows.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/coco_instance.py',
    '_base_/schedules/pvt_1x.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='ResNet',
        depth=18,
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
