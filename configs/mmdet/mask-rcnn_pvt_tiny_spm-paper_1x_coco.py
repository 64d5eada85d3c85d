# PVT-Tiny (SPM) by its equations 1 and 4 as printed, with Mask R-CNN 1x on COCO: no row in any
# paper, whose tables are the released code's (Table 5).
_base_ = 'mask-rcnn_pvt_tiny_spm_1x_coco.py'
model = dict(backbone=dict(merging=dict(paper_equations=True)))
