# PVT-Small with deformable merging on ImageNet-1K: LIT, Table 4. The offset layers as in LIT-Ti.
_base_ = 'pvt_small_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.DeformableMerging')))
optim_wrapper = dict(
    constructor='spm_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'offset.weight': dict(lr_mult=0.01)}),
)
