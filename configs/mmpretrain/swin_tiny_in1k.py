# Swin-T on ImageNet-1K: SPM, Table 4; HAFA, Table 6; PaCa, Table 1; SG-Former, Table 2; LIT, Tables 2
# to 4. They quote the Swin paper, whose recipe this is.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224.py',
    '_base_/schedules/swin_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.SwinTransformer', arch='tiny', out_type='avg_featmap', drop_path_rate=0.2
    ),
    head=dict(in_channels=768),
)
