# SG-Former-Small with one kind of block, both scales: SG-Former, Table 6. The paper does not
# describe these models and their printed parameters (25.6, 28.4 and 26.5 M) belong to none that its
# text allows: blocks without self-guidance in stages 1 to 3 are our reading.
_base_ = 'sgformer_small_in1k.py'
model = dict(backbone=dict(regions=None))
