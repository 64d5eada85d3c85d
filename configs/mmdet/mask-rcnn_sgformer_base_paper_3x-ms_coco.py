# SG-Former-Base with Mask R-CNN 3x on COCO, with the rates and scales of its Table 1, windows of
# merged tokens (Eq. 4) and its Eq. 5, where the released code has others: no row in any paper.
_base_ = 'mask-rcnn_sgformer_base_3x-ms_coco.py'
regions = [
    [[1, 196], [1, 56], [1, 56], [1, 28]],
    [[1, 49], [1, 14], [1, 14], [1, 7]],
    [[1, 2], [1, 1]],
]
model = dict(
    backbone=dict(
        regions=regions,
        scales=[[8, 4, 2, 1], [4, 2, 1], [2, 1]],
        in_windows=True,
        significance_over_map=True,
    )
)
