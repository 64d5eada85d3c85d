# PVT-Tiny, Mask R-CNN 3x with multi-scale training on COCO: PaCa, Table 2, which prints these values
# under 1x. The schedule is that of PVTv2-B2's official config: PVT has none of its own.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/coco_instance_ms.py',
    '_base_/schedules/coco_3x_ms.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.PVT',
        arch='tiny',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    )
)
