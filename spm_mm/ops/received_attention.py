"""How much attention every key gets: the significance of a token (SG-Former, section 3.3).

Fused attention does not return its weights. They are computed a second time here, without a gradient:
that costs one more product of queries and keys. Some queries go at a time, so that a large matrix of
weights is never held whole.
"""

import torch
from torch import Tensor

from spm_mm.ops.windows import is_open

QUERIES_AT_A_TIME = 4096


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
    _, heads, queries, d = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    keys = k.transpose(-2, -1) * d**-0.5
    received = None
    step = QUERIES_AT_A_TIME
    parts = (
        [slice(None)] if is_open(queries) else [slice(i, i + step) for i in range(0, queries, step)]
    )
    for some in parts:
        scores = q[:, :, some] @ keys
        if key_mask is not None:
            scores = scores.masked_fill(~key_mask[:, None, None], float('-inf'))
        weights = scores.softmax(dim=-1, dtype=dtype)
        if query_mask is not None:
            weights = weights * query_mask[:, None, some, None]
        part = weights.sum(dim=(1, 2))
        received = part if received is None else received + part
    return received / (heads * queries)
