# PVT-Large (HAFA), Mask R-CNN 1x on COCO: HAFA, Table 3.
# 16 images a step and lr 1e-4 are HAFA's own (section 4.3); there is no official config.
_base_ = 'mask-rcnn_pvt_large_1x_coco.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(
    backbone=dict(merging=[laa, laa, sia], out_type='tokens'),
    neck=dict(type='spm_mm.MTA'),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
auto_scale_lr = dict(base_batch_size=16)
