# PVT-Tiny (SPM) with UperNet on ADE20K: that head on another backbone, with no row in any paper.
_base_ = [
    '_base_/models/upernet_head.py',
    '_base_/datasets/ade20k_multiple32.py',
    '_base_/schedules/upernet_160k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='spm_mm.PVT',
        arch='tiny',
        merging=dict(type='spm_mm.StepwiseMerging', norm_cfg=dict(type='SyncBN')),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    )
)
train_dataloader = dict(batch_size=2)
