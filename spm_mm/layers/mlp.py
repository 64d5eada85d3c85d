import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.layers.channels_last import conv_on_map
from spm_mm.layers.linear import GELULinear, Linear
from spm_mm.ops import TokenMap, mlp, runs_eagerly


class DepthwiseConv(nn.Conv2d):
    """3x3 depth-wise convolution of a (B, C, H, W) map, plus that map if ``shortcut``.

    On the CPU the shortcut is a 1 more in the middle of every kernel, which saves a pass over the map.
    In less than 32 bits that sum would lose digits, so there the map is added behind.
    """

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        if not self.shortcut:
            return super().forward(x)
        exact = self.weight.dtype.itemsize >= 4 and not torch.is_autocast_enabled('cpu')
        if runs_eagerly(x) and x.device.type == 'cpu' and exact:
            middle = F.pad(self.weight.new_ones(1, 1, 1, 1), (1, 1, 1, 1))
            return self._conv_forward(x, self.weight + middle, self.bias)
        return x + super().forward(x)


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
        fc1, fc2 = self.fc1, self.fc2
        if _is_plain(fc1, Linear) and _is_plain(fc2, GELULinear):
            return mlp(x, fc1.weight, fc1.bias, fc2.weight, fc2.bias)
        return fc2(fc1(x))


def _is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer does what its class does: nobody replaced it, parametrized it or hooked it."""
    return type(layer) is kind and not (layer._forward_hooks or layer._forward_pre_hooks)


class DepthwiseMLP(nn.Module):
    """Two linear layers with a 3x3 depth-wise convolution and an exact GELU between them.

    Args:
        channels: Width of input and output.
        ratio: Width of the hidden layer, in multiples of ``channels``.
        shortcut: Whether the convolution's input is added to its output.
        relu: Whether a ReLU precedes the convolution, as in PVTv2's linear variant.

    Shape: map (B, H, W, C) to the same shape.
    """

    def __init__(self, channels: int, ratio: float, shortcut: bool, relu: bool = False) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.fc1 = Linear(channels, hidden)
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.dwconv = DepthwiseConv(hidden, shortcut)
        self.fc2 = GELULinear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(conv_on_map(self.dwconv, self.relu(self.fc1(x))))


class TokenDepthwiseMLP(DepthwiseMLP):
    """The same for tokens that have left the grid (TCFormer): the convolution runs on their map.

    A depth-wise 1x1 convolution without bias keeps what is each token's own.

    Args:
        channels: Width of input and output.
        ratio: Width of the hidden layer, in multiples of ``channels``.
        relu: Whether a ReLU precedes the convolution.

    Shape: :class:`~spm_mm.ops.TokenMap` of (B, N, C) to tokens (B, N, C).
    """

    def __init__(self, channels: int, ratio: float, relu: bool = False) -> None:
        super().__init__(channels, ratio, shortcut=False, relu=relu)
        hidden = self.fc1.out_features
        self.skip = nn.Conv1d(hidden, hidden, 1, groups=hidden, bias=False)

    def forward(self, tokens: TokenMap) -> Tensor:
        x = self.relu(self.fc1(tokens.x))
        tokens = tokens.with_tokens(x)
        mixed = tokens.from_map(conv_on_map(self.dwconv, tokens.to_map()))
        return self.fc2(mixed + x * self.skip.weight[:, 0, 0])
