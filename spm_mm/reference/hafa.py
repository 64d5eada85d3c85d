"""HAFA: clustering around density peaks (section 3.3), and TCFormer's scores on the attention behind.

The blocks are otherwise those of PVT and PVTv2, local-aware aggregation is LIT's deformable merging. In
both forms clusters become tokens, and tokens maps, by sums over an index, as in the published code.
"""

import torch
from torch import Tensor

from spm_mm.attention import SpatialReductionAttention
from spm_mm.merging import ClusterMerging
from spm_mm.reference.base import reference_form
from spm_mm.reference.pvt import attend


@reference_form(SpatialReductionAttention, 'weigh_biased')
def weigh_biased(
    module: SpatialReductionAttention, q: Tensor, k: Tensor, v: Tensor, bias: Tensor
) -> Tensor:
    return attend(q, k, v, bias)


@reference_form(ClusterMerging, 'cluster')
@torch.no_grad()
def cluster(module: ClusterMerging, x: Tensor) -> Tensor:
    """Whole matrices of distances, and of who is denser than whom: of equal tokens none is."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    tokens, channels = x.shape[1:]
    distance = torch.cdist(x, x) / channels**0.5
    nearest = distance.topk(min(module.k, tokens), dim=-1, largest=False).values
    density = (-(nearest**2).mean(dim=-1)).exp()
    if module.noise:
        density = density + module.noise * torch.rand_like(density)
    denser = (density[:, None] > density[:, :, None]).to(distance.dtype)
    farthest = distance.flatten(1).max(dim=1).values[:, None, None]
    separation = (distance * denser + farthest * (1 - denser)).min(dim=-1).values
    centres = (density * separation).topk(module.count(tokens), dim=-1).indices
    to_centres = distance.gather(1, centres[..., None].expand(-1, -1, tokens))
    numbers = torch.arange(centres.shape[1], device=x.device).expand_as(centres)
    return to_centres.argmin(dim=1).scatter(1, centres, numbers)
