from torch import Tensor, nn

from spm_mm.ops import gelu_linear, linear


class Linear(nn.Linear):
    """Linear layer by :func:`spm_mm.ops.linear`, which takes the faster library on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class PointwiseConv(nn.Conv2d):
    """1x1 convolution of a channels-last map, which is a linear layer; of its GELU if ``after_gelu``.

    Shape: map (B, H, W, C) to (B, H, W, C').
    """

    def __init__(
        self, in_channels: int, out_channels: int, bias: bool = True, after_gelu: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)
        self.after_gelu = after_gelu

    def forward(self, x: Tensor) -> Tensor:
        layer = gelu_linear if self.after_gelu else linear
        # A batch norm before it may answer in the plain layout.
        return layer(x.contiguous(), self.weight.flatten(1), self.bias)


class GELULinear(nn.Linear):
    """Exact GELU, then a linear layer, by :func:`spm_mm.ops.gelu_linear`, which keeps its input
    alone."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu_linear(x, self.weight, self.bias)
