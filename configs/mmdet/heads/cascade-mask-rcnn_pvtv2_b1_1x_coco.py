# PVTv2-B1 with weights of timm, Cascade Mask R-CNN: MMDetection's recipe for ResNet-50, with AdamW.
_base_ = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports='spm_mm', allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type='spm_mm.PVTv2',
        arch='b1',
        init_cfg=dict(type='Pretrained', checkpoint='spm_mm://timm/pvt_v2_b1.in1k'),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05))
