# SG-Former's 1x. The paper names Swin, PVT and CSWin as what it follows and no numbers beside 12
# epochs and the image sizes: these are Swin's.
_base_ = 'swin_1x.py'
