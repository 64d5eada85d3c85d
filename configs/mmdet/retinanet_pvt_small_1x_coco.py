# PVT-Small, RetinaNet 1x on COCO: LIT, Table 6. lr 1e-4 is PVT's for RetinaNet.
_base_ = [
    '_base_/models/retinanet_fpn.py',
    '_base_/datasets/coco_detection.py',
    '_base_/schedules/pvt_1x.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.PVT',
        arch='small',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    )
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
