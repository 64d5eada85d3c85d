# Swin-T, RetinaNet 1x on COCO: LIT, Table 6, which quotes Twins and names no recipe: it is that of
# Mask R-CNN in MMDetection. The stride-4 map is not put out: its norm would get no gradient.
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
        out_indices=[1, 2, 3],
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(in_channels=[192, 384, 768], start_level=0),
)
