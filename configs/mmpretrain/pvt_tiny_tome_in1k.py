# PVT-Tiny, token merging by similarity (ToMe) before stage 4 on ImageNet-1K.
# It has no row in any paper: the peer of the matched comparisons that reduces tokens; SPM and HAFA name
# it beside theirs.
_base_ = 'pvt_tiny_matched_in1k.py'
conv = dict(type='spm_mm.ConvMerging')
similarity = dict(type='spm_mm.SimilarityMerging')
model = dict(backbone=dict(merging=[conv, conv, similarity]))
