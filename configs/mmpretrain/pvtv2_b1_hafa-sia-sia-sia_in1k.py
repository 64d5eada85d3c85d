# PVTv2-B1 with SIA / SIA / SIA after stages 1 / 2 / 3 on ImageNet-1K: HAFA, Table 4.
# Images of 224 x 224 or little more: the clustering's memory grows with the square of the tokens.
_base_ = 'pvtv2_b1_hafa_in1k.py'
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[sia, sia, sia]))
