# PaCa-ViT's ImageNet recipe, from its official code: PVT's. The official values of warm-up (5e-7)
# and end (5e-6) are scaled by images / 512, so they are PVT's, too. Gradients are not clipped: the
# official file has clipping off, 1.0 for Base stands there in a comment alone.
_base_ = 'pvt_300e.py'
