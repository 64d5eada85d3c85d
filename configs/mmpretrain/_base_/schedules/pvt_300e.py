# PVT's ImageNet recipe: 300 epochs of 1024 images a step, AdamW, 5 epochs of warm-up from 1e-6,
# cosine to 1e-5, in mixed precision, which is the default of its official training. No decay on
# norms, biases and class tokens (position tables do decay). SPM, HAFA and LIT-Ti follow it, PVTv2
# and Shunted are assumed to. SPM and HAFA print "128" images, with lr 1e-3 on each GPU (lr = 5e-4 x
# images / 512). It ends at 300 epochs: the 10 of cooling down at 1e-5 that the official code also
# names are left out, the papers state 300.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'cls_token': dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=5, end=300, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=1024)
