# LIT-Ti, RetinaNet 1x on COCO: LIT, Table 6. The offset layers learn at the full rate, as in
# the official detection code. Batch norms are plain, with the statistics of each device: whether the
# published runs had them synchronised is not known (norm_cfg of the merging).
_base_ = [
    '_base_/models/retinanet_fpn.py',
    '_base_/datasets/coco_detection.py',
    '_base_/schedules/lit_1x.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.LIT',
        arch='tiny',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    )
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
