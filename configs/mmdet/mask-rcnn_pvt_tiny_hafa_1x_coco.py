# PVT-Tiny (HAFA), Mask R-CNN 1x on COCO: HAFA, Tables 3 and 5; SPM, Table 2.
# 16 images a step and lr 1e-4 are HAFA's own (section 4.3), the token neck that of its official configs
# (the paper names none), the rest is PVT's.
_base_ = 'mask-rcnn_pvt_tiny_1x_coco.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(
    backbone=dict(merging=[laa, laa, sia], out_type='tokens'),
    neck=dict(type='spm_mm.MTA'),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
