# Swin-T (HAFA) on ImageNet-1K: HAFA, Table 6; SPM, Table 4. No code was released for it: behind the
# clustering the blocks attend to all tokens, without windows and relative positions. The recipe is
# Swin's, assumed.
_base_ = 'swin_tiny_in1k.py'
laa = dict(type='spm_mm.DeformableMerging')
sia = dict(type='spm_mm.ClusterMerging')
model = dict(backbone=dict(merging=[laa, laa, sia]))
