# SegFormer on ADE20K as MMSegmentation 1.2.2 trains it: UperNet's schedule with ten times the learning
# rate in the head.
_base_ = 'upernet_160k.py'
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'head': dict(lr_mult=10.0)}))
