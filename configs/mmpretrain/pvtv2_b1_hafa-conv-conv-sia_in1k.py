# PVTv2-B1 with Conv2d / Conv2d / SIA after stages 1 / 2 / 3: HAFA, section 4.4, beside Table 4 (ImageNet-1K).
_base_ = 'pvtv2_b1_hafa_in1k.py'
sia = dict(type='spm_mm.ClusterMerging')
conv = dict(type='spm_mm.ConvMerging', kernel_size=3)
model = dict(backbone=dict(merging=[conv, conv, sia]))
