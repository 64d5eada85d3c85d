"""Plain reference implementations of the kernels in :mod:`spm_mm.ops`.

Those that the benchmark compares with stand beside their kernels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.ops import window_attention
from spm_mm.ops.token_map import EPSILON


def bipartite_matching_reference(x: Tensor, merged: int) -> list[list[int]]:
    """The definition of :func:`~spm_mm.ops.bipartite_matching`, in plain lists."""
    results = []
    for tokens in x.double():
        tokens = [token / token.norm() for token in tokens]
        odd = [j for j in range(len(tokens)) if j % 2]
        edges = []
        for i in range(0, len(tokens), 2):
            similarity, place = max((float(tokens[i] @ tokens[j]), -k) for k, j in enumerate(odd))
            edges.append((-similarity, i, -place))
        edges.sort()
        clusters = {j: k for k, j in enumerate(odd)}
        clusters |= {i: place for _, i, place in edges[:merged]}
        clusters |= {i: len(odd) + k for k, (_, i, _) in enumerate(edges[merged:])}
        results.append([clusters[i] for i in range(len(tokens))])
    return results


def dpc_knn_reference(x: Tensor, count: int, k: int = 5, scaled: bool = True) -> list[list[int]]:
    """The definition of :func:`~spm_mm.ops.dpc_knn` without noise, in plain lists."""
    results = []
    for tokens in x.double():
        n = len(tokens)
        scale = math.sqrt(x.shape[-1]) if scaled else 1.0
        distance = [[float((a - b).norm()) / scale for b in tokens] for a in tokens]
        nearest = [sorted(row)[:k] for row in distance]
        density = [math.exp(-sum(d * d for d in row) / len(row)) for row in nearest]
        farthest = max(map(max, distance))
        scores = []
        for i in range(n):
            denser = [
                distance[i][j] for j in range(n) if (-density[j], j) < (-density[i], i)
            ]  # of equal ones the first
            scores.append(density[i] * min(denser, default=farthest))
        centres = sorted(range(n), key=lambda i: -scores[i])[:count]
        clusters = [min(range(count), key=lambda c: distance[i][centres[c]]) for i in range(n)]
        for number, centre in enumerate(centres):
            clusters[centre] = number
        results.append(clusters)
    return results


def guided_attention_reference(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_heads: int,
    mask: Tensor | None = None,
) -> Tensor:
    """The definition of :func:`~spm_mm.ops.guided_attention`: all tokens attend, the first is kept."""
    return window_attention(F.linear(tokens, weight, bias), num_heads, mask)[:, 0]


def received_attention_reference(
    q: Tensor, k: Tensor, key_mask: Tensor | None = None, query_mask: Tensor | None = None
) -> Tensor:
    """The definition of :func:`~spm_mm.ops.received_attention`, query by query."""
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


def sorted_runs_reference(
    significance: Tensor, regions: Sequence[tuple[int, int]]
) -> list[list[list[list[int]]]]:
    """The definition of :func:`~spm_mm.ops.sorted_runs`, in plain lists."""
    results: list = [[] for _ in regions]
    total = sum(share for share, _ in regions)
    for values in significance.tolist():
        tokens = sorted(range(len(values)), key=values.__getitem__)
        start = 0
        for k, (_, rate) in enumerate(regions):
            stop = len(values) * sum(share for share, _ in regions[: k + 1]) // total
            region = tokens[start:stop]
            places = rate
            while places < len(region):
                places += rate
            spread = [region[s * len(region) // places] for s in range(places)]
            results[k].append([spread[i : i + rate] for i in range(0, places, rate)])
            start = stop
    return results


def pool_reference(
    values: Tensor, index: Tensor, count: int, weight: Tensor | None = None
) -> Tensor:
    """The definition of :func:`~spm_mm.ops.pool`, one mean after the other."""
    means = torch.zeros(len(values), count, values.shape[-1], dtype=values.dtype)
    for b, cells in enumerate(index.tolist()):
        for i in range(count):
            members = [p for p, cell in enumerate(cells) if cell == i]
            weights = [1.0 if weight is None else weight[b, p] for p in members]
            for share, p in zip(weights, members, strict=True):
                means[b, i] += share * values[b, p] / (sum(weights) + EPSILON)
    return means
