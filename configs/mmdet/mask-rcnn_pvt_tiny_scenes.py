# PVT-Tiny, Mask R-CNN on composed scenes: a quick run with no row in any paper.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/scenes.py',
    '_base_/schedules/small_data.py',
    '_base_/small_runtime.py',
]
model = dict(
    backbone=dict(type='spm_mm.PVT', arch='tiny', img_size=128, drop_path_rate=0.1),
    roi_head=dict(bbox_head=dict(num_classes=8), mask_head=dict(num_classes=8)),
)
auto_scale_lr = dict(base_batch_size=8)
