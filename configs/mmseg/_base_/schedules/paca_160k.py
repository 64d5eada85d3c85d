# PaCa-ViT with its own head, from its official code: UperNet's schedule; the head learns ten times
# faster, and so does what a config adds to custom_keys (the last layer of the clustering).
_base_ = 'upernet_160k.py'
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'decode_head': dict(lr_mult=10.0)}))
