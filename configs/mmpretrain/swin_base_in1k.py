# Swin-B on ImageNet-1K: PaCa, Table 1; SG-Former, Table 2; LIT, Table 2. The recipe is that of
# the Swin paper, which they quote.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224.py',
    '_base_/schedules/swin_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SwinTransformer', arch='base', out_type='avg_featmap', drop_path_rate=0.5
    ),
    head=dict(in_channels=1024),
)
