# PVTv2-B1 with timm's ImageNet weights, DINO from stride 8: MMDetection's recipe for ResNet-50.
_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'
custom_imports = dict(imports='spm_mm', allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type='spm_mm.PVTv2',
        arch='b1',
        out_indices=(1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='spm_mm://timm/pvt_v2_b1.in1k'),
    ),
    neck=dict(in_channels=[128, 320, 512]),
)
