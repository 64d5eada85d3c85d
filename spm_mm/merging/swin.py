"""Swin's patch merging: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
https://arxiv.org/abs/2103.14030.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.layers import Linear
from spm_mm.merging.base import Merging
from spm_mm.registry import MODELS

__all__ = ['SwinMerging']


@MODELS.register_module()
class SwinMerging(Merging):
    """The four tokens of each 2x2 window side by side, LayerNorm, linear layer without bias.

    The 4 C channels have the order of MMPretrain and MMDetection: the four tokens of channel 0, then
    those of channel 1. The official checkpoints have the four tokens one after the other instead.

    Args:
        in_channels: Channels C of the stage before.
        out_channels: Channels C' of the stage after.

    Shape: (B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), C'). An odd side is padded with zeros on the
    right or bottom, as the official detection and segmentation code does.
    """

    rounds_up = True

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.norm = nn.LayerNorm(4 * in_channels)
        self.reduction = Linear(4 * in_channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = (1 if side % 2 else 0 for side in x.shape[1:3])
        x = F.pad(x, (0, 0, 0, right, 0, bottom))
        windows = torch.stack([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=-1)
        return self.reduction(self.norm(windows.flatten(3)))
