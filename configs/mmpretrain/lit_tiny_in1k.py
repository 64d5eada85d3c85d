# LIT-Ti on ImageNet-1K: LIT, Table 2. PVT's recipe (section 4.1); the offset layers learn at 1e-5,
# as in the official code their weights alone.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224_repeated.py',
    '_base_/schedules/pvt_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='spm_mm.LIT', arch='tiny', out_type='cls_token', drop_path_rate=0.1),
    head=dict(in_channels=512),
)
optim_wrapper = dict(
    constructor='spm_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'offset.weight': dict(lr_mult=0.01)}),
)
