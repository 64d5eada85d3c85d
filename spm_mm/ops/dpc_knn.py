"""Density-peak clustering with k nearest neighbours, as HAFA's semantic aggregation uses it.

"Study on density peaks clustering based on k-nearest neighbors and principal component analysis"
(Du et al., 2016), in the form of TCFormer's and HAFA's official code.
"""

import math

import torch
from torch import Tensor

from spm_mm.ops.windows import is_open


@torch.no_grad()
def dpc_knn(x: Tensor, count: int, k: int = 5, noise: float = 0.0, scaled: bool = True) -> Tensor:
    """Divide the tokens of each image into clusters around density peaks (HAFA, Eq. 2 to 4).

    With d the Euclidean distance over sqrt(C), the density of a token is exp(-mean of d^2 over its k
    nearest tokens, itself among them); its separation is the distance to the nearest denser token, and
    for the densest one the largest distance of the image. Centres are the tokens whose product of both
    is largest. Every other token joins the nearest centre.

    Images do not see each other. Distances are float32 or better, whatever ``x`` is, and there is no
    gradient. The result is the same in every run: of two tokens with equal densities the first counts
    as the denser one, without which a region of equal tokens (the padding of a batch) would take all
    the centres. The official code draws noise for that, in training and evaluation alike. Du et al.
    do not divide by sqrt(C); HAFA's paper does not either, its code does.

    Args:
        x: Tokens (B, N, C).
        count: Number of clusters, 1 to N.
        k: Number of nearest tokens; all of them where there are fewer.
        noise: Uniform noise from 0 to below this is added to the densities. Published: 1e-6.
        scaled: Divide distances by sqrt(C); False takes them as Eq. 2 of HAFA prints them.

    Returns:
        Cluster of each token, integers (B, N) from 0 to ``count`` - 1, in falling order of the centres'
        products. No cluster is empty.
    """
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    distance = torch.cdist(x, x)
    if scaled:
        distance.div_(math.sqrt(x.shape[-1]))
    densities = density(distance, k)
    if noise:
        densities = densities + noise * torch.rand_like(densities)
    rank = densities.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    denser = rank[:, None] < rank[:, :, None]
    farthest = distance.amax(dim=(1, 2), keepdim=True)
    separation = torch.where(denser, distance, farthest).amin(dim=-1)
    score = densities * separation
    centres = score.argsort(dim=1, descending=True, stable=True)[:, :count]
    to_centres = distance.gather(1, centres[..., None].expand(-1, -1, x.shape[1]))
    numbers = torch.arange(count, device=x.device).expand(x.shape[0], -1)
    return to_centres.argmin(dim=1).scatter(1, centres, numbers)


def density(distance: Tensor, k: int) -> Tensor:
    """exp(-mean of d^2 over the k nearest tokens), (B, N), of distances d (B, N, N)."""
    k = (torch.sym_min if is_open(distance.shape[-1]) else min)(k, distance.shape[-1])
    nearest = distance.topk(k, dim=-1, largest=False).values
    return nearest.square().mean(dim=-1).neg().exp()


def dpc_knn_bytes(batch: int, tokens: int) -> int:
    """Memory of :func:`dpc_knn` at its peak in bytes: two matrices of distances and one of truths."""
    return batch * tokens * tokens * (4 + 4 + 1)
