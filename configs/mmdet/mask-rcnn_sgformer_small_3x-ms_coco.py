# SG-Former-Small, Mask R-CNN 3x with multi-scale training on COCO: SG-Former, Table 4. The paper
# states 36 epochs and short sides of 480 to 800; the rest is PVTv2-B2's official 3x, the drop path
# rate that of ImageNet.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/coco_instance_ms.py',
    '_base_/schedules/coco_3x_ms.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SGFormer',
        arch='small',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
