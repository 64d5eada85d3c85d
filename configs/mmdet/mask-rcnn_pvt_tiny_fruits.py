# PVT-Tiny, Mask R-CNN on photographs of fruits, from scratch: a run on small real data with
# no row in any paper.
_base_ = [
    '_base_/models/mask-rcnn_fpn.py',
    '_base_/datasets/fruits.py',
    '_base_/schedules/small_data.py',
    '_base_/small_runtime.py',
]
model = dict(
    backbone=dict(type='spm_mm.PVT', arch='tiny', drop_path_rate=0.1),
    roi_head=dict(bbox_head=dict(num_classes=3), mask_head=dict(num_classes=3)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=128))),  # of each picture, to be quick on a CPU
)
auto_scale_lr = dict(base_batch_size=2)
