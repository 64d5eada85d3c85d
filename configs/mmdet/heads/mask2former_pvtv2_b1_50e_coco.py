# PVTv2-B1 with timm's ImageNet weights, Mask2Former for instances: MMDetection's recipe for ResNet-50.
_base_ = 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'
custom_imports = dict(imports='spm_mm', allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type='spm_mm.PVTv2',
        arch='b1',
        init_cfg=dict(type='Pretrained', checkpoint='spm_mm://timm/pvt_v2_b1.in1k'),
    ),
    panoptic_head=dict(in_channels=[64, 128, 320, 512]),
)
