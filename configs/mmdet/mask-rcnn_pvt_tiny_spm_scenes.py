# PVT-Tiny (SPM), Mask R-CNN on composed scenes: a quick run with no row in any paper.
_base_ = 'mask-rcnn_pvt_tiny_scenes.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.StepwiseMerging', norm_cfg=dict(type='SyncBN')))
)
