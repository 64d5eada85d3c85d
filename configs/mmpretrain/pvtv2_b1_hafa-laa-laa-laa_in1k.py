# PVTv2-B1 with LAA / LAA / LAA after stages 1 / 2 / 3 on ImageNet-1K: HAFA, Table 4.
# The paper's training of this one collapsed.
_base_ = 'pvtv2_b1_hafa_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
model = dict(backbone=dict(merging=[laa, laa, laa]))
