"""PVT: attention to a reduced feature map (section 3.3)."""

from torch import Tensor

from spm_mm.attention import SpatialReductionAttention
from spm_mm.reference.base import reference_form


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(D) + bias) V on (B, G, N, D)."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias).softmax(dim=-1) @ v


@reference_form(SpatialReductionAttention, 'weigh')
def weigh(module: SpatialReductionAttention, q: Tensor, k: Tensor, v: Tensor, *grid: int) -> Tensor:
    return attend(q, k, v)
