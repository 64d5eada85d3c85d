# DeiT-B on ImageNet-1K at 384 x 384: SG-Former, Table 3. It is quoted; the recipe is that of
# SG-Former at 384, which goes on from the weights at 224, --cfg-options load_from=FILE.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_384.py',
    '_base_/schedules/sgformer_384_30e.py',
    '_base_/ema_runtime.py',
]
model = dict(
    backbone=dict(
        type='VisionTransformer', arch='deit-base', img_size=384, patch_size=16, drop_path_rate=0.1
    ),
    head=dict(in_channels=768),
)
