# Tested on the centre 90 % (short side 248), as the official codes of PaCa-ViT and SG-Former test;
# 87.5 % elsewhere.
_base_ = 'imagenet_224.py'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=248, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
