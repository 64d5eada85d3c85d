# PVT-Large (HAFA), Semantic FPN on ADE20K: HAFA, Table 2.
# 16 images a step and lr 1e-4 are HAFA's own (section 4.2); its official config is plain PVT.
_base_ = 'fpn_pvt_large_ade20k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(
    backbone=dict(merging=[laa, laa, sia], out_type='tokens'),
    neck=dict(type='spm_mm.MTA'),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
auto_scale_lr = dict(base_batch_size=16)
