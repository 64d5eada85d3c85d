# One ImageNet recipe for every matched comparison of patch mergings, so that the merging is all
# that differs: PVT's (1024 images a step, lr 1e-3, 300 epochs, repeated augmentation, mixed
# precision), with Swin's clipping, which Swin-T needs, and drop path 0.1. Offsets of deformable
# mergings learn a hundred times slower, as LIT's (section 4.1); other mergings have none. Every
# model averages its last feature map, since tokens merged by HAFA leave no room for a class
# token.
_base_ = [
    'models/classifier.py',
    'datasets/imagenet_224_repeated.py',
    'schedules/pvt_300e.py',
    'default_runtime.py',
]
model = dict(backbone=dict(out_type='avg_featmap', drop_path_rate=0.1))
optim_wrapper = dict(
    constructor='spm_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'offset.weight': dict(lr_mult=0.01)}),
    clip_grad=dict(max_norm=5.0),
)
