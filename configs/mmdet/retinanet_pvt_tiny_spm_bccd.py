# PVT-Tiny (SPM), RetinaNet on BCCD's blood cells, from scratch: a run on small real data with
# no row in any paper.
_base_ = 'retinanet_pvt_tiny_bccd.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.StepwiseMerging', norm_cfg=dict(type='SyncBN')))
)
