"""Bipartite soft matching of similar tokens: "Token Merging: Your ViT But Faster" (Bolya et al., 2023,
https://arxiv.org/abs/2210.09461), section 3.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def bipartite_matching(x: Tensor, merged: int) -> Tensor:
    """Join tokens with their most similar ones, so that ``merged`` fewer are left.

    Tokens at even and at odd places are two sets. Each token of the first has an edge to the most
    similar one of the second, by the cosine; the ``merged`` most similar edges join their ends. There
    is no gradient; of equal similarities the first counts. Images do not see each other.

    Args:
        x: Tokens (B, N, C).
        merged: How many tokens are joined with another, 0 to N // 2.

    Returns:
        Cluster of each token, integers (B, N) from 0 to N - ``merged`` - 1. None is empty.
    """
    b, n, _ = x.shape
    x = F.normalize(x.detach().to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
    similarity, partner = (x[:, ::2] @ x[:, 1::2].transpose(1, 2)).max(dim=-1)  # of the even ones
    order = similarity.argsort(dim=1, descending=True, stable=True)
    joined, kept = order.split([merged, order.shape[1] - merged], dim=1)
    # The odd tokens come first, then the even ones that stay alone.
    odd = torch.arange(n // 2, device=x.device).expand(b, -1)
    alone = n // 2 + torch.arange(kept.shape[1], device=x.device).expand(b, -1)
    even = torch.cat((partner.gather(1, joined), alone), dim=1).gather(1, order.argsort(dim=1))
    place = torch.arange(n, device=x.device)
    return torch.cat((even, odd), dim=1)[:, place // 2 + place % 2 * even.shape[1]]
