# PVT-Tiny (DTM), Semantic FPN on CamVid, from scratch: a run on small real data with no row in any
# paper. The offset layers as in fpn_lit_tiny_camvid.py.
_base_ = 'fpn_pvt_tiny_camvid.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.DeformableMerging', norm_cfg=dict(type='SyncBN')))
)
optim_wrapper = dict(
    constructor='spm_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'offset.weight': dict(lr_mult=0.01)}),
)
