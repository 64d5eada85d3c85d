# PVT-Tiny (HAFA), Semantic FPN on ADE20K: HAFA, Tables 2 and 5; SPM, Table 3. 16 images a step, lr
# 1e-4 and 40k iterations are HAFA's own (section 4.2; its official config runs 80k), the token neck
# that of its official configs (the paper names none), the rest is PVT's. The official code has
# plain batch norms and 4 images a device; with 2 they are taken over all devices, as SPM's beside
# it.
_base_ = 'fpn_pvt_tiny_ade20k.py'
laa = dict(type='spm_mm.DeformableMerging', norm_cfg=dict(type='SyncBN'))
sia = dict(type='spm_mm.ClusterMerging')
model = dict(
    backbone=dict(merging=[laa, laa, sia], out_type='tokens'),
    neck=dict(type='spm_mm.MTA'),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
auto_scale_lr = dict(base_batch_size=16)
