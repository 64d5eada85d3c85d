"""How much attention every key gets: the significance of a token (SG-Former, section 3.2).

Fused attention does not tell its weights. They are computed a second time here, without a gradient:
that costs one more product of queries and keys. Where no gradient is wanted, the weights are computed
once and serve both. Some go at a time, so a large matrix of weights is never held whole.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.ops.linear import runs_eagerly

QUERIES_AT_A_TIME = 4096
"""Where a compiler reads along; elsewhere than on the CPU, more of them take fused attention."""
WEIGHTS_AT_A_TIME = {'cpu': 2**20, 'cuda': 2**26}
"""Numbers of the matrix of weights: 4 MiB in float32, which stay in a processor's cache, or 256 MiB."""


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
    many = q.device.type != 'cpu' and q.shape[2] > QUERIES_AT_A_TIME
    if not runs_eagerly(q) or torch.is_grad_enabled() or many:
        mask = None if key_mask is None else key_mask[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out, received_attention(q, k, key_mask, query_mask)
    out, received = torch.empty_like(q), _nothing_received(q, k)
    for some, queries in _parts(q, k):
        weights = _weights(q, k, key_mask, some, queries)
        out[some, :, queries] = weights.to(v.dtype) @ v[some]
        received[some] += _received(weights, query_mask, some, queries)
    return out, received / (q.shape[1] * q.shape[2])


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
    received = _nothing_received(q, k)
    for some, queries in _parts(q, k):
        weights = _weights(q, k, key_mask, some, queries)
        received[some] += _received(weights, query_mask, some, queries)
    return received / (q.shape[1] * q.shape[2])


def _nothing_received(q: Tensor, k: Tensor) -> Tensor:
    dtype = torch.promote_types(q.dtype, torch.float32)
    return torch.zeros(k.shape[0], k.shape[2], dtype=dtype, device=k.device)


def _parts(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Which of the N, and which of their queries, go at a time."""
    n, heads, queries, _ = q.shape
    if not runs_eagerly(q):
        for start in range(0, queries, QUERIES_AT_A_TIME):
            yield slice(None), slice(start, start + QUERIES_AT_A_TIME)
        return
    limit = WEIGHTS_AT_A_TIME.get(q.device.type, 2**26) // (heads * k.shape[2])
    rows = max(1, min(queries, limit))
    step = max(1, limit // rows) if rows == queries else 1
    for i in range(0, n, step):
        for j in range(0, queries, rows):
            yield slice(i, i + step), slice(j, j + rows)


def _weights(q: Tensor, k: Tensor, key_mask: Tensor | None, some: slice, queries: slice) -> Tensor:
    """Attention weights (N, G, T, S) of a part, at least in float32."""
    scores = q[some, :, queries] @ k[some].transpose(-2, -1) * q.shape[-1] ** -0.5
    if key_mask is not None:
        scores = scores.masked_fill(~key_mask[some, None, None], float('-inf'))
    return scores.softmax(dim=-1, dtype=torch.promote_types(q.dtype, torch.float32))


def _received(weights: Tensor, query_mask: Tensor | None, some: slice, queries: slice) -> Tensor:
    """Sum over heads and queries, (N, S)."""
    if query_mask is not None:
        weights = weights * query_mask[some, None, queries, None]
    return weights.sum(dim=(1, 2))


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
