"""Swin: attention in windows, whose pairs look their biases up (Eq. 4)."""

import torch
from torch import Tensor

from spm_mm.attention import WindowAttention
from spm_mm.ops import relative_bias_reference
from spm_mm.reference.base import reference_form


@reference_form(WindowAttention, 'weigh')
def weigh(module: WindowAttention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """One matrix of weights for each head of each window."""
    table = module.relative_position_bias_table.table[0].permute(2, 0, 1)
    bias = relative_bias_reference(table.contiguous())
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
    if mask is not None:
        scores = scores + torch.where(mask, float('-inf'), 0.0).to(scores.dtype)[:, None]
    return scores.softmax(dim=-1) @ v
