"""PVT: attention to a reduced map (section 3.3), and the linear layers that all families share."""

from torch import Tensor
from torch.nn import functional as F

from spm_mm.attention import SpatialReductionAttention
from spm_mm.layers import MLP, GELULinear, Linear, PointwiseConv, conv_on_map
from spm_mm.layers.mlp import DepthwiseConv
from spm_mm.literal.base import literal_form


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(D) + bias) V on (B, G, N, D)."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias).softmax(dim=-1) @ v


@literal_form(SpatialReductionAttention, 'weigh')
def weigh(module: SpatialReductionAttention, q: Tensor, k: Tensor, v: Tensor, *grid: int) -> Tensor:
    return attend(q, k, v)


@literal_form(Linear)
def linear(module: Linear, x: Tensor) -> Tensor:
    return F.linear(x, module.weight, module.bias)


@literal_form(PointwiseConv)
def pointwise_convolution(module: PointwiseConv, x: Tensor) -> Tensor:
    x = F.gelu(x) if module.after_gelu else x
    return conv_on_map(lambda t: F.conv2d(t, module.weight, module.bias), x)


@literal_form(DepthwiseConv)
def depthwise_convolution(module: DepthwiseConv, x: Tensor) -> Tensor:
    mixed = F.conv2d(x, module.weight, module.bias, padding=1, groups=module.groups)
    return x + mixed if module.shortcut else mixed


@literal_form(GELULinear)
def gelu_linear(module: GELULinear, x: Tensor) -> Tensor:
    return F.linear(F.gelu(x), module.weight, module.bias)


@literal_form(MLP)
def mlp(module: MLP, x: Tensor) -> Tensor:
    return module.fc2(module.fc1(x))
