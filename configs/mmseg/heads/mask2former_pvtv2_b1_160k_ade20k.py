# PVTv2-B1 with timm's ImageNet weights, Mask2Former: MMSegmentation's recipe for ResNet-50.
_base_ = 'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py'
custom_imports = dict(imports=['mmdet.models', 'spm_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type='spm_mm.PVTv2',
        arch='b1',
        init_cfg=dict(type='Pretrained', checkpoint='spm_mm://timm/pvt_v2_b1.in1k'),
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
)
