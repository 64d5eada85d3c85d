# A slim PVT, Semantic FPN on CamVid, from scratch, with no row in any paper: small enough to
# compare mergings over several seeds on two CPU cores. Rare classes weigh more, 1 / log(1.02 +
# share of the training pixels) (ENet, Paszke et al., 2016), scaled to a mean of 1 over the pixels.
_base_ = './fpn_pvt_tiny_camvid.py'
crop_size = (192, 192)
batch_size = 8
max_iters = 1200
widths = [32, 64, 160, 256]
class_weight = [0.8, 0.61, 4.79, 0.48, 2.21, 1.25, 4.5, 4.57, 1.83, 5.43, 6.27]
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=widths,
            depths=[2, 2, 2, 2],
            num_heads=[1, 2, 5, 8],
            mlp_ratios=[4, 4, 4, 4],
            sr_ratios=[8, 4, 2, 1],
        ),
        drop_path_rate=0.0,
    ),
    neck=dict(in_channels=widths, out_channels=64),
    decode_head=dict(
        in_channels=[64] * 4,
        channels=64,
        # The sum over the pixels of a batch by their number: MMSegmentation's weighted mean looks
        # up the weight of the label 255, which has none.
        loss_decode=dict(
            class_weight=class_weight,
            reduction='sum',
            loss_weight=1 / (batch_size * crop_size[0] * crop_size[1]),
        ),
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=batch_size, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=100, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 4)
default_hooks = dict(checkpoint=dict(interval=max_iters))
