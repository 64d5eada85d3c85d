# Swin-T, RetinaNet 1x on COCO: LIT, Table 6, which quotes Twins and names no recipe: it is that of
# Mask R-CNN in MMDetection.
_base_ = [
    '_base_/models/retinanet_fpn.py',
    '_base_/datasets/coco_detection.py',
    '_base_/schedules/swin_1x.py',
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
