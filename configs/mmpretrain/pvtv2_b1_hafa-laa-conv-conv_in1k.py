# PVTv2-B1 with LAA / Conv2d / Conv2d on ImageNet-1K: HAFA, section 4.4, beside Table 4.
# The modules stand after stages 1 / 2 / 3.
_base_ = 'pvtv2_b1_hafa_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
conv = dict(type='spm_mm.ConvMerging', kernel_size=3)
model = dict(backbone=dict(merging=[laa, conv, conv]))
