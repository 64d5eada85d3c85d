# PVT-Medium (SPM), Mask R-CNN 1x on COCO: SPM, Table 2. lr 1e-4 is SPM's own (section 4.2), the rest is
# PVT's; SPM states no schedule. How SPM's batch norms were trained is not stated: SyncBN is ours.
_base_ = 'mask-rcnn_pvt_medium_1x_coco.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.StepwiseMerging', norm_cfg=dict(type='SyncBN')))
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
