# SegFormer-B3 with SPM between the stages on ADE20K, with no row in any paper.
_base_ = 'segformer_mit_b3_ade20k.py'
model = dict(
    backbone=dict(merging=dict(type='spm_mm.StepwiseMerging', norm_cfg=dict(type='SyncBN')))
)
