from typing import ClassVar

from torch import Tensor, nn

from spm_mm.layers.channels_last import conv_on_map


class PatchStem(nn.Module):
    """Non-overlapping patches to tokens: convolution with kernel and stride ``patch_size``, LayerNorm.

    Args:
        in_channels: Channels of the image.
        out_channels: Width of the first stage.
        patch_size: Side of a patch in pixels. Rows and columns that do not fill one are left out.

    Shape: image (B, C_in, H, W) to map (B, floor(H / patch_size), floor(W / patch_size), C_out).
    """

    rounds_up: ClassVar[bool] = False
    """Whether a side of n pixels becomes ceil(n / 4) cells, or else floor(n / 4)."""

    def __init__(self, in_channels: int, out_channels: int, patch_size: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(conv_on_map(self.conv, x.permute(0, 2, 3, 1)))
