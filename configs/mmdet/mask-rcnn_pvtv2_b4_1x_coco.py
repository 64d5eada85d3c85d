# PVTv2-B4, Mask R-CNN 1x on COCO: PaCa, Table 2. 8 images a step and lr 2e-4 / 1.4, as PVTv2's official
# detection code.
_base_ = 'mask-rcnn_pvtv2_b1_1x_coco.py'
model = dict(backbone=dict(arch='b4'))
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(optimizer=dict(lr=2e-4 / 1.4))
auto_scale_lr = dict(base_batch_size=8)
