# PaCa-ViT-Small with MobileNetV2 as the external clustering teacher on ImageNet-1K, which footnote
# 2 names as another light network: no row in any paper.
_base_ = 'pacavit_small_ec_in1k.py'
teacher = dict(type='mmpretrain.MobileNetV2', out_indices=(1, 2, 4, 7))
model = dict(backbone=dict(teacher=teacher))
