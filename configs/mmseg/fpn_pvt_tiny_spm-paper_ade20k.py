# PVT-Tiny (SPM) by its equations 1 and 4 as printed, with Semantic FPN on ADE20K: no row in any
# paper, whose tables are the released code's (Table 5).
_base_ = 'fpn_pvt_tiny_spm_ade20k.py'
model = dict(backbone=dict(merging=dict(paper_equations=True)))
