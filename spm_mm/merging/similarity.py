"""Token merging by similarity (ToMe) in the place of a patch merging."""

import math

import torch
from torch import Tensor, nn

from spm_mm.errors import UserError
from spm_mm.merging.base import Merging
from spm_mm.ops import TokenMap, bipartite_matching
from spm_mm.registry import MODELS

__all__ = ['SimilarityMerging']


@MODELS.register_module()
class SimilarityMerging(Merging):
    """Merges similar tokens by bipartite soft matching, without a parameter of its own for it.

    The peer of patch mergings that reduces tokens: "Token Merging: Your ViT But Faster" (Bolya et al.,
    2023, https://arxiv.org/abs/2210.09461), which SPM (section 2.2) and HAFA (section 2.2) name beside
    their own. Tokens are joined with their most similar ones, at most half of them at a time, until
    ``ratio`` of them are left; each becomes the mean of its cells; a LayerNorm and a linear layer bring
    it to the width of the next stage. As with :class:`~spm_mm.merging.ClusterMerging` nothing lies on a
    grid any more, so the backbone must be one that runs on tokens.

    Published is the merging of a few tokens in every block of a plain ViT, with the cosine of the
    attention's keys and with log(size) in its logits. Here, between two stages, the cosine is that of
    the tokens, and the attention behind does not see their sizes.

    Args:
        in_channels: Channels C of the stage before.
        out_channels: Channels C' of the stage after.
        ratio: Merged tokens as a share of the tokens, above 0, at most 1; rounded up. The default is
            that of a patch merging.

    Shape: map (B, H, W, C), or tokens (B, N, C), to a :class:`~spm_mm.ops.TokenMap` of ceil(ratio N)
    tokens that stands for a map (B, ceil(H / 2), ceil(W / 2), C').

    Raises:
        ValueError: If ``ratio`` is not as named.
    """

    rounds_up = True
    keeps_grid = False
    # Of one size it compiles as one graph. With dynamic sizes the number of rounds is not known.
    compilable = False
    discontinuous = True

    def __init__(self, in_channels: int, out_channels: int, ratio: float = 0.25) -> None:
        super().__init__(in_channels, out_channels)
        if not 0 < ratio <= 1:
            raise UserError(f'ratio of SimilarityMerging must be above 0, at most 1, got {ratio!r}')
        self.ratio = ratio
        self.norm = nn.LayerNorm(in_channels)
        self.proj = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor | TokenMap) -> TokenMap:
        tokens = x if isinstance(x, TokenMap) else TokenMap.of_map(x)
        size = tuple(math.ceil(side / 2) for side in tokens.size)
        left = math.ceil(self.ratio * tokens.x.shape[1])
        sizes = torch.ones_like(tokens.x[..., 0])
        while (count := tokens.x.shape[1]) > left:
            merged = min(count // 2, count - left)
            cluster = bipartite_matching(tokens.x, merged)
            tokens = tokens.merge(cluster, count - merged, sizes, size)
            sizes = sizes.new_zeros(len(sizes), count - merged).scatter_add(1, cluster, sizes)
        if tokens.size != size:  # nothing was merged
            tokens = TokenMap(tokens.x, tokens.index, tokens.weight, size)
        return tokens.with_tokens(self.proj(self.norm(tokens.x)))
