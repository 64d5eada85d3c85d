# Logs and checkpoints by iterations, for schedules/small_data.py.
_base_ = 'default_runtime.py'
default_hooks = dict(
    logger=dict(interval=20, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=600),
)
log_processor = dict(by_epoch=False)
