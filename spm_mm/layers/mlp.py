from torch import Tensor, nn

from spm_mm.layers.channels_last import conv_on_map
from spm_mm.ops import TokenMap


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
        self.fc1 = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


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
        self.shortcut = shortcut
        self.fc1 = nn.Linear(channels, hidden)
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.fc1(x))
        mixed = conv_on_map(self.dwconv, x)
        return self.fc2(self.act(x + mixed if self.shortcut else mixed))


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
        return self.fc2(self.act(mixed + x * self.skip.weight[:, 0, 0]))
