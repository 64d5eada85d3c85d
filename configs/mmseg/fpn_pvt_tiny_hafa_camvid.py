# PVT-Tiny (HAFA), Semantic FPN on CamVid, from scratch: a run on small real data with no row in any
# paper. The neck is the plain FPN of its siblings, on the map of the merged tokens.
_base_ = 'fpn_pvt_tiny_camvid.py'
laa = dict(type='spm_mm.DeformableMerging', norm_cfg=dict(type='SyncBN'))
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia]))
