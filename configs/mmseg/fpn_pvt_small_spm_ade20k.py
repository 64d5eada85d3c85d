# PVT-Small (SPM), Semantic FPN on ADE20K: SPM, Table 3. 16 images a step and lr 1e-4 are SPM's own
# (section 4.3), the rest is PVT's. How SPM's batch norms were trained is not stated: SyncBN is ours.
_base_ = 'fpn_pvt_small_ade20k.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.StepwiseMerging', norm_cfg=dict(type='SyncBN')))
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
auto_scale_lr = dict(base_batch_size=16)
