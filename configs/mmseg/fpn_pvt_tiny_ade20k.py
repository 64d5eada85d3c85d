# PVT-Tiny, Semantic FPN on ADE20K: SPM, Table 3; HAFA, Table 2; PaCa, Table 3.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/ade20k_multiple32.py',
    '_base_/schedules/pvt_40k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.PVT',
        arch='tiny',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    )
)
