# One Semantic FPN recipe for every matched comparison of patch mergings, so that the merging is
# all that differs: 80k iterations of 16 images at lr 1e-4, which are as many crops as PVT's 40k
# of 32, FPN as the neck for all, also behind HAFA, and batch norms of mergings and head over all
# devices.
_base_ = [
    'models/fpn_head.py',
    'datasets/ade20k.py',
    'schedules/fpn_80k.py',
    'default_runtime.py',
]
model = dict(
    backbone=dict(
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    )
)
train_dataloader = dict(batch_size=2)
