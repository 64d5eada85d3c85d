# PVT-Tiny (SPM), Mask R-CNN on photographs of fruits, from scratch: a run on small real data with
# no row in any paper.
_base_ = 'mask-rcnn_pvt_tiny_fruits.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.StepwiseMerging', norm_cfg=dict(type='SyncBN')))
)
