# Swin-T (SPM) on ImageNet-1K: SPM, Table 4. The paper names no recipe beside "consistent": it is taken
# to be Swin's own.
_base_ = 'swin_tiny_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.StepwiseMerging')))
