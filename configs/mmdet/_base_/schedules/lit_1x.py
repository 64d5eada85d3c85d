# LIT's 1x (section 4.3) is PVT's: lr 2e-4 for Mask R-CNN and 1e-4 for RetinaNet, weight decay 1e-4.
# LIT-S decays no norms and no tables of positions in the official code; LIT-Ti decays all.
_base_ = 'pvt_1x.py'
