# The default runtime with a moving average of the weights, which is what is evaluated.
_base_ = 'default_runtime.py'
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='EMAHook', ema_type='ExponentialMovingAverage', momentum=8e-5, priority='ABOVE_NORMAL'
    ),
]
