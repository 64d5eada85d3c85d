from torch import Tensor, nn

from spm_mm.ops import gelu_linear, linear


class Linear(nn.Linear):
    """Linear layer by :func:`spm_mm.ops.linear`, which takes the faster library on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class GELULinear(nn.Linear):
    """Exact GELU, then a linear layer, by :func:`spm_mm.ops.gelu_linear`, which keeps its input
    alone."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu_linear(x, self.weight, self.bias)
