import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.layers.channels_last import conv_on_map
from spm_mm.layers.linear import GELULinear, Linear
from spm_mm.ops import in_parts, runs_eagerly


class DepthwiseConv(nn.Conv2d):
    """3x3 depth-wise convolution of a (B, C, H, W) map, plus that map if ``shortcut``.

    The shortcut is a 1 more in the middle of every kernel, which saves a pass over the map. In less
    than 32 bits that sum would lose digits, so there the map is added behind.
    """

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        if not self.shortcut:
            return super().forward(x)
        if (
            not runs_eagerly(x)
            or torch.is_autocast_enabled(x.device.type)
            or self.weight.dtype.itemsize < 4
        ):
            return super().forward(x) + x
        middle = F.pad(self.weight.new_ones(1, 1, 1, 1), (1, 1, 1, 1))
        return self._conv_forward(x, self.weight + middle, self.bias)


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them.

    Args:
        channels: Width of input and output.
        ratio: Width of the hidden layer, in multiples of ``channels``.

    Shape: (..., C) to (..., C).
    """

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.fc1 = Linear(channels, hidden)
        self.fc2 = GELULinear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        rows = in_parts(x, self.fc1.out_features)
        if torch.is_grad_enabled() or len(rows) == 1:
            return self.fc2(self.fc1(x))
        # The hidden layer is made and used up part by part.
        return torch.cat([self.fc2(self.fc1(part)) for part in rows]).view(x.shape)


class DepthwiseMLP(nn.Module):
    """Two linear layers with a 3x3 depth-wise convolution and an exact GELU between them.

    Args:
        channels: Width of input and output.
        ratio: Width of the hidden layer, in multiples of ``channels``.
        shortcut: Whether the convolution's input is added to its output.

    Shape: map (B, H, W, C) to the same shape.
    """

    def __init__(self, channels: int, ratio: float, shortcut: bool) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.fc1 = Linear(channels, hidden)
        self.dwconv = DepthwiseConv(hidden, shortcut)
        self.fc2 = GELULinear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(conv_on_map(self.dwconv, self.fc1(x)))
