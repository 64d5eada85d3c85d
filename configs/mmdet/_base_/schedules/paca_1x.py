# PaCa-ViT's 1x, from its official code: weight decay 0.05 but none on norms, mixed precision. Its data
# are multi-scale (datasets/coco_instance_ms.py), though the paper says 1x alone.
_base_ = 'pvt_1x.py'
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={'norm': dict(decay_mult=0.0)}),
)
