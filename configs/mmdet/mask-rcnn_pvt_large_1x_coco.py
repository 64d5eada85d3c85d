# PVT-Large, Mask R-CNN 1x on COCO: HAFA, Table 3; PaCa, Table 2; SG-Former, Table 4. 8 images a step,
# lr 2e-4 / 1.4 and no stochastic depth, as PVT's official detection code.
_base_ = 'mask-rcnn_pvt_tiny_1x_coco.py'
model = dict(backbone=dict(arch='large', drop_path_rate=0.0))
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(optimizer=dict(lr=2e-4 / 1.4))
auto_scale_lr = dict(base_batch_size=8)
