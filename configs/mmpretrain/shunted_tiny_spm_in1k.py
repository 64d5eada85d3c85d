# Shunted-T (SPM) on ImageNet-1K: SPM, Table 4. All three mergings are replaced, with their norms. That
# gives 11.46 M parameters where the paper prints 11.6 M: configs/papers.yaml has the arithmetic.
_base_ = 'shunted_tiny_in1k.py'
model = dict(backbone=dict(merging=dict(type='spm_mm.StepwiseMerging')))
