from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spm_mm.layers.channels_last import conv_on_map
from spm_mm.layers.init import init_linears


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them.

    Args:
        channels: Width of input and output.
        ratio: Width of the hidden layer, in multiples of ``channels``.

    Shape: (..., C) to (..., C).
    """

    recompute: bool = False
    """Whether the activation is recomputed in the backward pass instead of kept; see ``with_cp`` of
    :class:`~spm_mm.backbones.hierarchical.HierarchicalBackbone`."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.fc1 = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)
        init_linears(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.fc1(x))

    def project(self, hidden: Tensor) -> Tensor:
        """The activation and the second layer."""
        if self.recompute:
            return checkpoint(self._project, hidden, use_reentrant=False)
        return self._project(hidden)

    def _project(self, hidden: Tensor) -> Tensor:
        return self.fc2(self.act(hidden))


class DepthwiseMLP(MLP):
    """Two linear layers with a 3x3 depth-wise convolution and an exact GELU between them.

    Args:
        channels: Width of input and output.
        ratio: Width of the hidden layer, in multiples of ``channels``.
        shortcut: Whether the convolution's input is added to its output.
        relu: Whether a ReLU precedes the convolution, as in PVTv2's linear variant.

    Shape: feature map (B, H, W, C) to the same shape.
    """

    def __init__(self, channels: int, ratio: float, shortcut: bool, relu: bool = False) -> None:
        super().__init__(channels, ratio)
        hidden = self.fc1.out_features
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.shortcut = shortcut
        # Behind the convolution: optimizers in checkpoints number parameters in this order.
        self.fc2 = self._modules.pop('fc2')

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.fc1(x))
        mixed = conv_on_map(self.dwconv, hidden)
        return self.project(hidden + mixed if self.shortcut else mixed)
