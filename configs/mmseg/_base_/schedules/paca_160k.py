# PaCa-ViT with its own head, from its official code: UperNet's schedule in mixed precision; the head
# and the last layer of the clustering, which starts anew for another number of clusters, learn ten
# times faster. The official config's name for that layer fits the convolutional clustering alone; here
# the rule holds for the MLP's and the teacher's, too.
_base_ = 'upernet_160k.py'
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    paramwise_cfg=dict(
        custom_keys={'decode_head': dict(lr_mult=10.0), 'to_clusters': dict(lr_mult=10.0)}
    ),
)
