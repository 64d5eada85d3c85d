# ADE20K as PVT's official segmentation code tests it, which SPM, HAFA and PVTv2 go by: both sides
# of the test image are made multiples of 32 behind the resizing.
_base_ = 'ade20k.py'
multiple = dict(type='ResizeToMultiple', size_divisor=32)
test_pipeline = [*_base_.test_pipeline[:2], multiple, *_base_.test_pipeline[2:]]
scales, flips, *rest = _base_.tta_pipeline[1]['transforms']
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(type='TestTimeAug', transforms=[scales, [multiple], flips, *rest]),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
