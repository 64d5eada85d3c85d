# Shunted-T on ImageNet-1K: SPM, Table 4. The paper names no recipe for Shunted: PVT's is assumed, with
# the drop path rate of Shunted's official code.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_224_repeated.py',
    '_base_/schedules/pvt_300e.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.ShuntedTransformer', arch='tiny', out_type='avg_featmap', drop_path_rate=0.1
    ),
    head=dict(in_channels=512),
)
