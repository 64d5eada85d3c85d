"""Window attention of which only the first token, the guide, is wanted (SPM, section 3.3, Eq. 4).

One query per window is enough, and the projections of keys and values can be moved off the tokens.
For head g with query q, key weight K and value weight V, over the tokens x_n of the window::

    q . (K x_n + b_k) = (K^T q) . x_n + const          the constant cancels in the softmax
    sum_n a_n (V x_n + b_v) = V (sum_n a_n x_n) + b_v   the weights a_n sum to 1

That takes about 3 C^2 multiply-accumulates a window where projecting 5 tokens takes 15 C^2, and the
result is the same.
"""

from torch import Tensor
from torch.nn import functional as F

from spm_mm.ops.linear import linear


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
    n, _, c = tokens.shape
    heads = (num_heads, c // num_heads)
    w_q, w_k, w_v = weight.chunk(3)
    b_q, _, b_v = (None, None, None) if bias is None else bias.chunk(3)

    q = linear(tokens[:, 0], w_q, b_q).view(n, *heads).transpose(0, 1) * heads[1] ** -0.5
    q = q @ w_k.view(*heads, c)  # (G, N, C): the queries in the space of tokens
    # Heads come last, since a softmax over a handful of neighbours in memory is slow on the CPU.
    scores = tokens @ q.permute(1, 2, 0)
    if mask is not None:
        scores = scores.masked_fill(~mask[..., None], float('-inf'))
    pooled = scores.softmax(dim=1).transpose(1, 2) @ tokens
    out = pooled.transpose(0, 1) @ w_v.view(*heads, c).transpose(1, 2)  # (G, N, D)
    out = out.transpose(0, 1).reshape(n, c)
    return out if b_v is None else out + b_v


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
