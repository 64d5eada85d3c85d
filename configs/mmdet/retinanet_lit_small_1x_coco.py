# LIT-S, RetinaNet 1x on COCO: LIT, Table 6. Output norms, tables for 800 pixels, mixed precision,
# checkpointing and what does not decay are those of the official detection code.
_base_ = 'retinanet_lit_tiny_1x_coco.py'
model = dict(
    backbone=dict(
        arch='small', img_size=800, out_norms=[1, 2, 3], drop_path_rate=0.2, with_cp=True
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    paramwise_cfg=dict(
        custom_keys={
            'norm': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
        }
    ),
)
