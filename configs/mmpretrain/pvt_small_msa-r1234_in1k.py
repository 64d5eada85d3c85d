# PVT-Small without attention on ImageNet-1K: LIT, Table 5. Without attention a class token sees
# nothing of the image, so the classifier reads the mean of all tokens, which the paper does not say.
_base_ = 'pvt_small_msa_in1k.py'
model = dict(backbone=dict(attention=[None, None, None, None], out_type='avg_featmap'))
