# PVT-Tiny (SPM), Semantic FPN on CamVid, from scratch: a run on small real data with no row in any
# paper.
_base_ = 'fpn_pvt_tiny_camvid.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.StepwiseMerging', norm_cfg=dict(type='SyncBN')))
)
