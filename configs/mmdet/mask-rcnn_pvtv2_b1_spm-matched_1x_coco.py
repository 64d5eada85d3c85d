# PVTv2-B1 with stepwise merging (SPM), Mask R-CNN 1x on COCO, matched: no row in any paper.
_base_ = 'mask-rcnn_pvtv2_b1_matched_1x_coco.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.StepwiseMerging', norm_cfg=dict(type='SyncBN')))
)
