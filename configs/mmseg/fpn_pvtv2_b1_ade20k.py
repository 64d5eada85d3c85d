# PVTv2-B1, Semantic FPN on ADE20K: PaCa, Table 3, which names no recipe: PVT's is assumed.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/ade20k_multiple32.py',
    '_base_/schedules/pvt_40k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.PVTv2',
        arch='b1',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    )
)
