# SG-Former-Medium, Mask R-CNN 1x on COCO: SG-Former, Table 4. The paper does not
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
        arch='medium',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
