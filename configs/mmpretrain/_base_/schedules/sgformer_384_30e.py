# SG-Former's fine-tuning at 384 x 384 (section 4.1): 30 epochs, AdamW, lr 5e-6, weight decay 1e-8.
# The paper does not state batch, schedule and warm-up: 512 images a step (64 a device), a cosine to
# 1e-6 without warm-up, and the average of the weights as before, are ours.
_base_ = 'sgformer_300e.py'
optim_wrapper = dict(optimizer=dict(lr=5e-6, weight_decay=1e-8))
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=0, end=30, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=512)
