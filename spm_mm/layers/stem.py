from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.layers.channels_last import conv_on_map
from spm_mm.ops import overhang


class PatchStem(nn.Module):
    """Non-overlapping patches to tokens: convolution with kernel and stride ``patch_size``, LayerNorm.

    Args:
        in_channels: Channels of the image.
        out_channels: Width of the first stage.
        patch_size: Side of a patch in pixels.
        rounds_up: Whether rows and columns that do not fill a patch are filled up with zeros on the
            bottom and right, or else left out.

    Shape: image (B, C_in, H, W) to map (B, H / patch_size, W / patch_size, C_out), both rounded as
    ``rounds_up`` says.
    """

    def __init__(
        self, in_channels: int, out_channels: int, patch_size: int = 4, rounds_up: bool = False
    ) -> None:
        super().__init__()
        self.rounds_up = rounds_up
        self.conv = nn.Conv2d(in_channels, out_channels, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.rounds_up:
            bottom, right = (overhang(side, self.conv.stride[0]) for side in x.shape[2:])
            x = F.pad(x, (0, right, 0, bottom))
        return self.norm(conv_on_map(self.conv, x.permute(0, 2, 3, 1)))


class OverlapStem(nn.Module):
    """Overlapping patches to tokens: a 7x7 convolution of stride 4 and a LayerNorm (PVTv2).

    Args:
        in_channels: Channels of the image.
        out_channels: Width of the first stage.

    Shape: image (B, C_in, H, W) to map (B, ceil(H / 4), ceil(W / 4), C_out).
    """

    rounds_up: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 7, stride=4, padding=3)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(conv_on_map(self.conv, x.permute(0, 2, 3, 1)))


class DoubleConvStem(nn.Module):
    """Two 3x3 convolutions of stride 2, one directly after the other, and a LayerNorm (PaCa-ViT).

    Args:
        in_channels: Channels of the image.
        out_channels: Width of the first stage, even; half of it lies between the convolutions.
        norm_eps: The LayerNorm's epsilon.

    Shape: image (B, C_in, H, W) to map (B, ceil(H / 4), ceil(W / 4), C_out).
    """

    rounds_up: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int, norm_eps: float = 1e-6) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = nn.Conv2d(in_channels, half, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(half, out_channels, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_channels, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(conv_on_map(lambda t: self.conv2(self.conv1(t)), x.permute(0, 2, 3, 1)))
