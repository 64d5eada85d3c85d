# PVTv2-B1 with timm's ImageNet weights, RTMDet from stride 8: MMDetection's recipe for RTMDet-S.
_base_ = 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'
custom_imports = dict(imports='spm_mm', allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        _delete_=True,
        type='spm_mm.PVTv2',
        arch='b1',
        out_indices=(1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='spm_mm://timm/pvt_v2_b1.in1k'),
    ),
    neck=dict(in_channels=[128, 320, 512]),
)
