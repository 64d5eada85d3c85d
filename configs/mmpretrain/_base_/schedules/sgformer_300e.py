# SG-Former's ImageNet recipe (section 4.1): PVT's with 20 epochs of warm-up. The average of the weights
# is in ../ema_runtime.py.
_base_ = 'pvt_300e.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=20, end=300, convert_to_iter_based=True),
]
