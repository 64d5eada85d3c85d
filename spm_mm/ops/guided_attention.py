"""Window attention of which only the first token, the guide, is wanted (SPM, section 3.3, Eq. 4).

One query per window is enough, and the projections of keys and values can be moved off the tokens.
For head g with query q, key weight K and value weight V, over the tokens x_n of the window::

    q . (K x_n + b_k) = (K^T q) . x_n + const          the constant cancels in the softmax
    sum_n a_n (V x_n + b_v) = V (sum_n a_n x_n) + b_v   the weights a_n sum to 1

That takes about 3 C^2 multiply-accumulates a window where projecting 5 tokens takes 15 C^2, and the
result is the same.

On the CPU some windows go at a time, through buffers that stay in the cache: the queries in the space
of tokens, and the weighted sums, are larger than the tokens themselves. For the backward pass nothing
but the arguments is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.ops.linear import linear, once_more, runs_eagerly

PART = 2**19
"""Numbers of the queries in the space of tokens at a time on the CPU, 2 MiB."""
LARGE = 4 * PART
"""Numbers from which on that is faster than all windows at once."""


def guided_attention(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_heads: int,
    mask: Tensor | None = None,
) -> Tensor:
    """Output of the first token of multi-head self-attention inside windows.

    Args:
        tokens: Windows of T tokens, the guide first, (N, T, C).
        weight: Fused query, key and value projection, (3 C, C).
        bias: Its bias, (3 C,), or None.
        num_heads: Number of heads G; must divide C.
        mask: True where a token may be attended to, (N, T); None where all may. The guide itself
            must be True.

    Returns:
        Output of the guides, (N, C).
    """
    by_parts = (
        runs_eagerly(tokens)
        and tokens.device.type == 'cpu'
        and tokens.dtype == weight.dtype
        and tokens.dtype.itemsize >= 4  # gradients are summed over the parts
        and tokens.shape[0] * num_heads * tokens.shape[2] >= LARGE
        and not torch.is_autocast_enabled('cpu')
    )
    if not by_parts:
        return _absorbed(tokens, weight, bias, num_heads, mask).out
    if torch.is_grad_enabled():
        return _GuidedAttention.apply(tokens, weight, bias, num_heads, mask)
    return _by_parts(tokens, weight, bias, num_heads, mask)


@dataclass
class _Steps:
    """What the absorbed form computes on its way."""

    query: Tensor
    """Scaled queries of the guides, (G, N, D)."""
    absorbed: Tensor
    """Queries in the space of tokens, (G, N, C)."""
    weights: Tensor
    """Attention (N, T, G). Heads come last, since a softmax over a handful of neighbours in memory is
    slow on the CPU."""
    pooled: Tensor
    """Weighted sums of tokens, (N, G, C)."""
    out: Tensor
    """(N, C)."""


@dataclass
class _Buffers:
    """Memory for ``absorbed`` and ``pooled``, and for their like in the backward pass."""

    heads_first: Tensor | None = None
    heads_last: Tensor | None = None

    @classmethod
    def of(cls, tokens: Tensor, num_heads: int) -> '_Buffers':
        n, _, c = tokens.shape
        return cls(tokens.new_empty(num_heads, n, c), tokens.new_empty(n, num_heads, c))


def _absorbed(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_heads: int,
    mask: Tensor | None,
    buffers: _Buffers | None = None,
) -> _Steps:
    n, _, c = tokens.shape
    heads = (num_heads, c // num_heads)
    buffers = buffers or _Buffers()
    w_q, w_k, w_v = weight.chunk(3)
    b_q, _, b_v = (None, None, None) if bias is None else bias.chunk(3)

    query = linear(tokens[:, 0], w_q, b_q).view(n, *heads).transpose(0, 1) * heads[1] ** -0.5
    absorbed = torch.bmm(query, w_k.view(*heads, c), out=buffers.heads_first)
    scores = tokens @ absorbed.permute(1, 2, 0)
    if mask is not None:
        scores = scores.masked_fill(~mask[..., None], float('-inf'))
    weights = scores.softmax(dim=1)
    pooled = torch.bmm(weights.transpose(1, 2), tokens, out=buffers.heads_last)
    out = pooled.transpose(0, 1) @ w_v.view(*heads, c).transpose(1, 2)  # (G, N, D)
    out = out.transpose(0, 1).reshape(n, c)
    return _Steps(query, absorbed, weights, pooled, out if b_v is None else out + b_v)


def _parts(tokens: Tensor, num_heads: int, mask: Tensor | None, passes: int = 1) -> Iterator[tuple]:
    """Windows that go at a time: their places, tokens, mask, and memory for each of the passes."""
    step = max(1, PART // (num_heads * tokens.shape[2]))
    size = None
    for start in range(0, len(tokens), step):
        place = slice(start, start + step)
        part = tokens[place]
        if len(part) != size:
            size = len(part)
            buffers = [_Buffers.of(part, num_heads) for _ in range(passes)]
        yield place, part, None if mask is None else mask[place], *buffers


def _by_parts(
    tokens: Tensor, weight: Tensor, bias: Tensor | None, num_heads: int, mask: Tensor | None
) -> Tensor:
    out = tokens.new_empty(len(tokens), tokens.shape[2])
    for place, part, part_mask, buffers in _parts(tokens, num_heads, mask):
        out[place] = _absorbed(part, weight, bias, num_heads, part_mask, buffers).out
    return out


class _GuidedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        tokens: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        num_heads: int,
        mask: Tensor | None,
    ) -> Tensor:
        return _by_parts(tokens, weight, bias, num_heads, mask)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        tokens, weight, bias, ctx.num_heads, mask = inputs
        ctx.save_for_backward(tokens, weight, bias, mask)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight, bias, mask = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody differentiates once more

            def absorbed(*inputs: Tensor) -> Tensor:
                return _absorbed(*inputs, ctx.num_heads, mask).out

            return *once_more(absorbed, (tokens, weight, bias), grad), None, None
        with torch.autocast('cpu', enabled=False):
            return *_gradients(tokens, weight, bias, ctx.num_heads, mask, grad), None, None


def _gradients(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_heads: int,
    mask: Tensor | None,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None]:
    g, c = num_heads, tokens.shape[2]
    w_q, w_k, w_v = weight.chunk(3)
    w_k, w_v = (w.view(g, c // g, c) for w in (w_k, w_v))
    grad_tokens = torch.empty_like(tokens)
    grad_weight, grad_bias = torch.zeros_like(weight), weight.new_zeros(3, c)
    grad_q, grad_k, grad_v = grad_weight.chunk(3)
    grad_k, grad_v = (w.view(g, c // g, c) for w in (grad_k, grad_v))
    for place, part, part_mask, forth, back in _parts(tokens, g, mask, passes=2):
        n = len(part)
        steps = _absorbed(part, weight, bias, g, part_mask, forth)
        weights = steps.weights
        of_part = grad_tokens[place]
        of_heads = grad[place].view(n, g, -1).transpose(0, 1)
        grad_v += of_heads.mT @ steps.pooled.transpose(0, 1)
        of_pooled = torch.bmm(of_heads, w_v, out=back.heads_first)
        torch.bmm(weights, of_pooled.transpose(0, 1), out=of_part)
        of_weights = part @ of_pooled.permute(1, 2, 0)
        of_scores = weights * (of_weights - (of_weights * weights).sum(dim=1, keepdim=True))
        of_part.baddbmm_(of_scores, steps.absorbed.transpose(0, 1))
        of_absorbed = torch.bmm(of_scores.transpose(1, 2), part, out=back.heads_last)
        of_absorbed = of_absorbed.transpose(0, 1)
        grad_k += steps.query.mT @ of_absorbed
        of_query = (of_absorbed @ w_k.mT).transpose(0, 1).reshape(n, c) * (c // g) ** -0.5
        grad_q.addmm_(of_query.T, part[:, 0])
        grad_bias[0] += of_query.sum(dim=0)
        of_part[:, 0] += of_query @ w_q
    grad_bias[2] = grad.sum(dim=0)
    return grad_tokens, grad_weight, None if bias is None else grad_bias.flatten()


def window_attention(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_heads: int,
    mask: Tensor | None = None,
) -> Tensor:
    """Multi-head self-attention inside windows, all outputs.

    Arguments as in :func:`guided_attention`; every row of ``mask`` has at least one True.

    Returns:
        (N, T, C).
    """
    n, t, c = tokens.shape
    qkv = F.linear(tokens, weight, bias).view(n, t, 3, num_heads, c // num_heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    if mask is not None:
        mask = mask[:, None, None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).reshape(n, t, c)


def guided_attention_reference(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_heads: int,
    mask: Tensor | None = None,
) -> Tensor:
    """The definition of :func:`guided_attention`: attend with all tokens, keep the first."""
    return window_attention(tokens, weight, bias, num_heads, mask)[:, 0]
