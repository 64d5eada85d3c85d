# NAT-Mini (SPM) on ImageNet-1K: SPM, Table 4. All three mergings are replaced, with their norms.
_base_ = 'nat_mini_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.StepwiseMerging')))
