# PVT-Large, Mask R-CNN 3x with multi-scale training on COCO: SG-Former, Table 4. 8 images a step and lr
# / 1.4 as PVT's official 1x has them for Large.
_base_ = 'mask-rcnn_pvt_tiny_3x-ms_coco.py'
model = dict(backbone=dict(arch='large', drop_path_rate=0.0))
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(optimizer=dict(lr=1e-4 / 1.4))
auto_scale_lr = dict(base_batch_size=8)
