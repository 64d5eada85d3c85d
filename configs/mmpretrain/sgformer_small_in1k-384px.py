# SG-Former-Small on ImageNet-1K at 384 x 384: SG-Former, Table 3. It goes on from the weights of
# sgformer_small_in1k.py, --cfg-options load_from=FILE; the position table is resized to 96 x 96.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_384.py',
    '_base_/schedules/sgformer_384_30e.py',
    '_base_/ema_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SGFormer',
        arch='small',
        out_type='avg_featmap',
        drop_path_rate=0.4,
        img_size=384,
    ),
    head=dict(in_channels=512),
)
