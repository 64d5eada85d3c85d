# As SG-Former's released code reads ImageNet: to train, each crop is resized bilinearly or
# bicubically, at random; to test, the short side at 248 and the centre. The paper says resize and
# centre crop.
_base_ = 'imagenet_224_crop90.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation=kind)]
            for kind in ('bilinear', 'bicubic')
        ],
    ),
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
