# Swin-T with deformable merging on ImageNet-1K: LIT, Table 4. Swin's recipe, the offset layers as in
# LIT-S.
_base_ = 'swin_tiny_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.DeformableMerging')))
optim_wrapper = dict(
    constructor='spm_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'offset.weight': dict(lr_mult=0.01)}),
)
