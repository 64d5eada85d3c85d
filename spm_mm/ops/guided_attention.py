"""Window attention of which only the first token, the guide, is wanted (SPM, section 3.2, Eq. 4).

One query per window is enough: the queries of the other tokens are never made. The windows are many
and small, so attention is elementwise products and sums, which a compiler joins into one kernel, not a
batch of tiny matrix products.
"""

from torch import Tensor
from torch.nn import functional as F


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
    c = tokens.shape[-1]
    w_q, w_kv = weight.split((c, 2 * c))
    b_q, b_kv = (None, None) if bias is None else bias.split((c, 2 * c))
    return guide_output(
        F.linear(tokens[:, 0], w_q, b_q), F.linear(tokens, w_kv, b_kv), num_heads, mask
    )


def guide_output(
    query: Tensor, key_value: Tensor, num_heads: int, mask: Tensor | None = None
) -> Tensor:
    """Output of one query a window.

    Args:
        query: Of the guides, (N, C).
        key_value: Keys and values of all tokens, (N, T, 2 C).
        num_heads: Number of heads G; must divide C.
        mask: As in :func:`guided_attention`.

    Returns:
        Output of the guides, (N, C).
    """
    n, t = key_value.shape[:2]
    query = query.view(n, 1, num_heads, -1)
    keys, values = key_value.view(n, t, 2, num_heads, -1).unbind(2)
    scores = (query * query.shape[-1] ** -0.5 * keys).sum(dim=-1, keepdim=True)
    if mask is not None:
        scores = scores.masked_fill(~mask[..., None, None], float('-inf'))
    return (scores.softmax(dim=1) * values).sum(dim=1).flatten(1)


def window_attention(qkv: Tensor, num_heads: int, mask: Tensor | None = None) -> Tensor:
    """Multi-head self-attention inside windows, all outputs.

    Args:
        qkv: Queries, keys and values of windows of T tokens, (N, T, 3 C).
        num_heads: Number of heads G; must divide C.
        mask: As in :func:`guided_attention`; every row has at least one True.

    Returns:
        (N, T, C).
    """
    n, t, c = qkv.shape
    q, k, v = qkv.view(n, t, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
    # Not fused: on a GPU the fused kernels refuse that many windows.
    scores = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], float('-inf'))
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, t, c // 3)
