# SG-Former's ImageNet recipe: PVT's with 20 epochs of warm-up, mixed precision and an average of the
# weights, which is what is evaluated.
_base_ = 'pvt_300e.py'
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic')
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=20, end=300, convert_to_iter_based=True),
]
custom_hooks = [
    dict(
        type='EMAHook', ema_type='ExponentialMovingAverage', momentum=8e-5, priority='ABOVE_NORMAL'
    )
]
