# LIT-Tiny, Semantic FPN on CamVid, from scratch: a run on small real data with no row in any paper.
# The weights of the offset layers learn at a hundredth of the rate, as in LIT's training from scratch.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/camvid.py',
    '_base_/schedules/small_data.py',
    '_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(160, 160)),
    backbone=dict(
        type='spm_mm.LIT',
        arch='tiny',
        merging=dict(type='spm_mm.DeformableMerging', norm_cfg=dict(type='SyncBN')),
        drop_path_rate=0.1,
    ),
    decode_head=dict(num_classes=11),
)
optim_wrapper = dict(
    constructor='spm_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'offset.weight': dict(lr_mult=0.01)}),
)
