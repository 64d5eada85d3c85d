# LIT-B on ImageNet-1K: LIT, Table 2. With checkpointing, as in the official code.
_base_ = 'lit_small_in1k.py'
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.5, with_cp=True),
    head=dict(in_channels=1024),
)
