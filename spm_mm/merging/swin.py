"""Swin's patch merging: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
https://arxiv.org/abs/2103.14030.
"""

from torch import Tensor, nn

from spm_mm.layers import init_linears
from spm_mm.merging.base import Merging
from spm_mm.ops import pad_to_multiple
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
        self.reduction = nn.Linear(4 * in_channels, out_channels, bias=False)
        init_linears(self)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, 2)
        b, h, w, c = x.shape
        windows = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 5, 2, 4)
        return self.reduction(self.norm(windows.flatten(3)))
