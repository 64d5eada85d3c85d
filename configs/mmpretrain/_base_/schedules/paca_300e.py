# PaCa-ViT's ImageNet recipe, from its official code: PVT's with mixed precision. The official values of
# warm-up (5e-7) and end (5e-6) are scaled by images / 512, so they are PVT's, too.
_base_ = 'pvt_300e.py'
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic')
