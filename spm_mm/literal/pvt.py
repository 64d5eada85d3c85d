"""PVT: attention to a reduced map (section 3.3), and the MLP that most families share."""

from torch import Tensor

from spm_mm.attention import SpatialReductionAttention
from spm_mm.layers import MLP, DepthwiseMLP, conv_on_map
from spm_mm.literal.base import literal_form


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V on (B, G, N, D)."""
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v


@literal_form(SpatialReductionAttention, 'weigh')
def weigh(module: SpatialReductionAttention, q: Tensor, k: Tensor, v: Tensor, *grid: int) -> Tensor:
    return attend(q, k, v)


@literal_form(MLP)
def mlp(module: MLP, x: Tensor) -> Tensor:
    return module.fc2(module.act(module.fc1(x)))


@literal_form(DepthwiseMLP)
def depthwise_mlp(module: DepthwiseMLP, x: Tensor) -> Tensor:
    x = module.fc1(x)
    mixed = conv_on_map(module.dwconv, x)
    return module.fc2(module.act(x + mixed if module.shortcut else mixed))
