# PVT-Tiny, RetinaNet of half the usual width on BCCD's blood cells, from scratch: a run on small real
# data with no row in any paper.
_base_ = [
    '_base_/models/retinanet_fpn.py',
    '_base_/datasets/bccd.py',
    '_base_/schedules/small_data.py',
    '_base_/small_runtime.py',
]
model = dict(
    backbone=dict(type='spm_mm.PVT', arch='tiny', drop_path_rate=0.1),
    neck=dict(out_channels=128),
    bbox_head=dict(num_classes=3, in_channels=128, feat_channels=128),
)
