# PVTv2-B1 with Conv2d / LAA / SIA on ImageNet-1K: HAFA, section 4.4, beside Table 4.
# The modules stand after stages 1 / 2 / 3.
_base_ = 'pvtv2_b1_hafa_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
conv = dict(type='spm_mm.ConvMerging', kernel_size=3)
model = dict(backbone=dict(merging=[conv, laa, sia]))
