# The ImageNet recipe of LIT-S, M and B: Swin's, and the offsets of deformable merging learn a hundred
# times slower (section 4.1). In the official code this holds for the offset convolutions' weights;
# their biases learn at the full rate.
_base_ = 'swin_300e.py'
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'offset.weight': dict(lr_mult=0.01)}))
