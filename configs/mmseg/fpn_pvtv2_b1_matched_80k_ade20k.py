# PVTv2-B1 with its own merging, Semantic FPN on ADE20K, matched: no row in any paper.
_base_ = '_base_/matched.py'
model = dict(backbone=dict(type='spm_mm.PVTv2', arch='b1'))
