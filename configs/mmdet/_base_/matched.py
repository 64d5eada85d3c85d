# One Mask R-CNN 1x recipe for every matched comparison of patch mergings, so that the merging is
# all that differs: PVT's 1x (12 epochs of 16 images a step) at the lr 1e-4 of SPM and HAFA, FPN
# as the neck for all, also behind HAFA, and batch norms of mergings over all devices.
_base_ = [
    'models/mask-rcnn_fpn.py',
    'datasets/coco_instance.py',
    'schedules/pvt_1x.py',
    'default_runtime.py',
]
model = dict(
    backbone=dict(
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    )
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
