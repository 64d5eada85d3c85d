# SG-Former-Base, Mask R-CNN 1x on COCO: SG-Former, Table 4. The printed mask
# AP of 68.2 is no target. The paper does not
# state the drop path rate: it is that of ImageNet.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/coco_instance.py',
    '_base_/schedules/sgformer_1x.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SGFormer',
        arch='base',
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
