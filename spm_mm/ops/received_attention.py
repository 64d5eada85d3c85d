"""How much attention every key gets: the significance of a token (SG-Former, section 3.2).

Fused attention does not tell its weights. They are computed a second time here, without a gradient
and for some queries at a time: that costs one more product of queries and keys, and the whole matrix
of weights is never held. Where no gradient is wanted and the queries are few, the weights are computed
once and serve both.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.ops.linear import runs_eagerly

QUERIES_AT_A_TIME = 4096


def attend_and_receive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_mask: Tensor | None = None,
    query_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Multi-head attention, and the attention that each key receives.

    Args:
        q: Queries (N, G, T, D).
        k: Keys (N, G, S, D).
        v: Values (N, G, S, D).
        key_mask: As in :func:`received_attention`.
        query_mask: Likewise.

    Returns:
        (N, G, T, D), and (N, S) as of :func:`received_attention`.
    """
    many = q.shape[2] > QUERIES_AT_A_TIME
    if not runs_eagerly(q) or torch.is_grad_enabled() or many:
        mask = None if key_mask is None else key_mask[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out, received_attention(q, k, key_mask, query_mask)
    weights = _weights(q, k, key_mask)
    return weights.to(v.dtype) @ v, _received(weights, query_mask)


@torch.no_grad()
def received_attention(
    q: Tensor, k: Tensor, key_mask: Tensor | None = None, query_mask: Tensor | None = None
) -> Tensor:
    """Attention that each key receives, averaged over heads and queries.

    Args:
        q: Queries (N, G, T, D).
        k: Keys (N, G, S, D).
        key_mask: True where a key may be attended to, (N, S); at least one in each row.
        query_mask: True where a query counts, (N, T). The others add nothing, and the average is
            over T all the same: with as many queries as keys the mean over the keys stays 1 / T.

    Returns:
        (N, S), at least in float32, without gradient.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    received = torch.zeros(k.shape[0], k.shape[2], dtype=dtype, device=k.device)
    for start in range(0, q.shape[2], QUERIES_AT_A_TIME):
        part = slice(start, start + QUERIES_AT_A_TIME)
        counted = None if query_mask is None else query_mask[:, part]
        some = q[:, :, part]
        received = received + _received(_weights(some, k, key_mask), counted) * some.shape[2]
    return received / q.shape[2]


def _weights(q: Tensor, k: Tensor, key_mask: Tensor | None) -> Tensor:
    """Attention weights (N, G, T, S), at least in float32."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if key_mask is not None:
        scores = scores.masked_fill(~key_mask[:, None, None], float('-inf'))
    return scores.softmax(dim=-1, dtype=torch.promote_types(q.dtype, torch.float32))


def _received(weights: Tensor, query_mask: Tensor | None) -> Tensor:
    if query_mask is not None:
        weights = weights * query_mask[:, None, :, None]
    return weights.mean(dim=(1, 2))


def received_attention_reference(
    q: Tensor, k: Tensor, key_mask: Tensor | None = None, query_mask: Tensor | None = None
) -> Tensor:
    """The definition of :func:`received_attention`, query by query."""
    n, heads, queries, d = q.shape
    received = q.new_zeros(n, k.shape[2])
    for i in range(n):
        keys = torch.ones(k.shape[2], dtype=torch.bool) if key_mask is None else key_mask[i]
        for head in range(heads):
            for t in range(queries):
                if query_mask is None or query_mask[i, t]:
                    scores = (k[i, head][keys] * q[i, head, t]).sum(dim=1) / d**0.5
                    received[i, keys] += scores.softmax(dim=0)
    return received / (heads * queries)
