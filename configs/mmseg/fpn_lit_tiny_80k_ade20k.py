# LIT-Ti, Semantic FPN on ADE20K: LIT, Table 8. 80k iterations that end at lr 1e-6 are the official
# config's, where the paper prints 8K.
_base_ = [
    '_base_/models/fpn_head.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/fpn_80k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.LIT',
        arch='tiny',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    )
)
train_dataloader = dict(batch_size=2)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-6, begin=0, end=80000, by_epoch=False)]
