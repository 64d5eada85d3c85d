# With repeated augmentation (each image three times in a step, a third of the images an epoch), as
# PVT's and LIT-Ti's official code trains.
_base_ = 'imagenet_224.py'
train_dataloader = dict(sampler=dict(_delete_=True, type='RepeatAugSampler', shuffle=True))
