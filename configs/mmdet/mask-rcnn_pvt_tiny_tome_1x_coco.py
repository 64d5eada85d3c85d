# PVT-Tiny, token merging by similarity (ToMe) before stage 4, Mask R-CNN 1x on COCO.
# It has no row in any paper: the peer of the matched comparisons that reduces tokens; SPM and HAFA name
# it beside theirs.
_base_ = 'mask-rcnn_pvt_tiny_matched_1x_coco.py'
conv = dict(type='spm_mm.ConvMerging')
similarity = dict(type='spm_mm.SimilarityMerging')
model = dict(backbone=dict(merging=[conv, conv, similarity]))
