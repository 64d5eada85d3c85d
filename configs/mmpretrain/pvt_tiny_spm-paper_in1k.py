# PVT-Tiny (SPM) by its equations 1 and 4 as printed, on ImageNet-1K: no row in any paper, whose tables
# are the released code's (Table 5).
_base_ = 'pvt_tiny_spm_in1k.py'
model = dict(backbone=dict(merging=dict(paper_equations=True)))
