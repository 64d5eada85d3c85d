"""Attention over a whole map with a bias for each shift between query and key, in bounded memory.

The bias of all pairs takes G N^2 numbers, 0.8 GB for one block at stage 3 of an 800 x 1333 image.
Fused attention reads it as its mask, but does not give its gradient on the CPU: the full matrices of
all blocks would be kept for the backward pass. Here large maps go through in slices of heads, each
recomputed in the backward pass, so that one slice is all that exists at a time.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from spm_mm.ops.windows import is_open

SLICE = 2**24
"""Numbers of the bias at a time: 64 MB in float32. A single head may take more."""


def relative_attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """Multi-head attention with a relative position bias.

    Args:
        q: Queries (B, G, N, D) of a map of N = H W tokens.
        k: Keys, likewise.
        v: Values, likewise.
        table: Bias of each shift, query minus key, (G, 2 H - 1, 2 W - 1); no shift is in the middle.

    Returns:
        (B, G, N, D).
    """
    heads, tokens = q.shape[1:3]
    if is_open(tokens):
        return _attend(q, k, v, table)
    step = max(1, SLICE // tokens**2)
    if step >= heads:
        return _attend(q, k, v, table)
    slices = zip(*(t.split(step, dim=1) for t in (q, k, v)), table.split(step), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([_attend(*part) for part in slices], dim=1)
    return torch.cat([checkpoint(_attend, *part, use_reentrant=False) for part in slices], dim=1)


def relative_bias(table: Tensor) -> Tensor:
    """The bias of every pair of tokens of a map of H x W.

    Args:
        table: Bias of each shift, query minus key, (G, 2 H - 1, 2 W - 1).

    Returns:
        (G, H W, H W), queries first.
    """
    # The bias of query (y, x) and key (y', x') is table[:, H - 1 + y - y', W - 1 + x - x']: windows
    # of the table's sides, read backwards.
    if is_open(*table.shape):
        return relative_bias_reference(table)
    height, width = ((side + 1) // 2 for side in table.shape[1:])
    windows = table.unfold(1, height, 1).unfold(2, width, 1).flip(3, 4)
    return windows.reshape(len(table), height * width, height * width)


def _attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    bias = relative_bias(table.to(q.dtype))[None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def relative_bias_reference(table: Tensor) -> Tensor:
    """The definition of :func:`relative_bias`: look every pair up."""
    height, width = ((side + 1) // 2 for side in table.shape[1:])
    rows, columns = (torch.arange(side, device=table.device) for side in (height, width))
    y, x = torch.cartesian_prod(rows, columns).unbind(1)
    return table[:, y[:, None] - y + height - 1, x[:, None] - x + width - 1]


def relative_attention_reference(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """The definition of :func:`relative_attention`: look the bias of every pair up, softmax."""
    bias = relative_bias_reference(table)
    return (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + bias).softmax(dim=-1) @ v
