# Semantic FPN over 80k iterations of 16 images (2 a device), AdamW, lr 1e-4, polynomial decay:
# SG-Former, section 4.3, and LIT's official config (whose paper prints 8K; it ends at lr 1e-6).
# SG-Former does not state batch and decay: these are LIT's.
_base_ = 'pvt_40k.py'
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=80000, by_epoch=False)]
train_cfg = dict(max_iters=80000, val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000))
auto_scale_lr = dict(base_batch_size=16)
