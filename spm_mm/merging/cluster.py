"""Semantic-aware aggregation (SIA): "Building Vision Transformers with Hierarchy Aware Feature
Aggregation" (HAFA), section 3.3.

Tokens are merged with those that look alike, wherever they lie.
"""

from fractions import Fraction

import torch
from torch import Tensor, nn

from spm_mm.errors import UserError, check_count
from spm_mm.layers import conv_on_map, init_linears, resize_map
from spm_mm.merging.base import Merging
from spm_mm.ops import TokenMap, dpc_knn, dpc_knn_bytes
from spm_mm.registry import MODELS, suggest

__all__ = ['ClusterMerging']

CONTEXTS = ('strided', 'dense', 'clusters')


class ContextBranch(nn.Module):
    """Keys and values with an implicit position encoding: a projection and a depth-wise convolution.

    Args:
        in_channels: Channels C.
        out_channels: Channels C'.
        stride: Of the depth-wise 5x5 convolution, 1 or 2.

    Shape: map (B, H, W, C), and a map of the size of the result that is added to it, to
    (B, ceil(H / stride), ceil(W / stride), C').
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.skip = nn.Conv1d(in_channels, out_channels, 1, bias=False)
        self.depthwise = nn.Conv2d(
            out_channels, out_channels, 5, stride=stride, padding=2, groups=out_channels
        )
        self.pointwise = nn.Conv2d(out_channels, out_channels, 1)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        x = project(self.skip, x.flatten(1, 2)).unflatten(1, x.shape[1:3])
        return self.norm(conv_on_map(lambda t: self.pointwise(self.depthwise(t)), x) + added)


@MODELS.register_module()
class ClusterMerging(Merging):
    """SIA: tokens to clusters of similar ones, each merged by learned importance (Eq. 5 and 6).

    A convolution of stride 2 is spread back to the tokens and added to a projection of them; these are
    clustered by :func:`~spm_mm.ops.dpc_knn` into a quarter as many, and each cluster becomes the mean
    of its tokens, weighted by exp(score) of a linear layer. Nothing lies on a grid any more: what
    follows runs on a :class:`~spm_mm.ops.TokenMap`, and the backbone must be one that can
    (``takes_tokens``). In the first block behind it the merged tokens are the queries; what its keys
    and values are made of is the option ``context``. No position is encoded after it, but in the
    context.

    Where the paper and the official code differ, the default is the code, which the published models
    ran: distances are divided by sqrt(C'), keys and values of the first block lie on a grid of stride
    2 (``'strided'``). In the paper only the queries are clustered and all tokens stay keys and values:
    ``'dense'``, the same layers without the stride. Both have as many parameters, so the printed counts
    do not tell them apart; they do of the official code's further 1x1 convolution ``proj_q``, which is
    never used and so is not here (262,656 parameters for 512 channels): the paper's counts of PVT on
    ImageNet come out without it, all others with it.

    In a batch that is padded to a common size, padding is tokens like any other: it counts for the
    number of clusters and is merged with what looks like it. Equal tokens fall into one cluster, so a
    padded image has a few more clusters for its own tokens, not fewer. Images do not see each other.

    Args:
        in_channels: Channels C of the stage before.
        out_channels: Channels C' of the stage after.
        ratio: Merged tokens as a share of the tokens, above 0, at most 1; rounded up.
        k: Nearest tokens that a density is made of, the token itself among them. Not stated in the
            paper.
        context: What keys and values of the first block behind are made of: ``'strided'``, a map of
            half the sides, ``'dense'``, the whole map, or ``'clusters'``, the merged tokens themselves
            (Table 5, "QKV").
        noise: Uniform noise from 0 to below this is added to the densities, in training and
            evaluation. The official code has 1e-6, with which results differ from run to run.
        scaled_distance: Divide the distances of the clustering by sqrt(C'), as the official code does;
            False takes them as the paper's Eq. 2 and 3 print them, which makes all but near tokens
            count as far.
        max_tokens: More tokens than this are refused, as the memory of the clustering grows with their
            square. The default is 128 x 64; behind stage 3 an image of 1333 x 800 has 4,200.

    Shape: map (B, H, W, C), or tokens (B, N, C) of an earlier merging of this kind, to a
    :class:`~spm_mm.ops.TokenMap` of ceil(ratio N) tokens that stands for a map
    (B, ceil(H / 2), ceil(W / 2), C').

    Raises:
        ValueError: If an option is not as named, or, in the forward pass, if there are more than
            ``max_tokens`` tokens; the message says what memory they would take.
    """

    rounds_up = True
    keeps_grid = False
    discontinuous = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ratio: float = 0.25,
        k: int = 5,
        context: str = 'strided',
        noise: float = 0.0,
        max_tokens: int = 8192,
        scaled_distance: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels)
        if context not in CONTEXTS:
            raise UserError(
                f'context of ClusterMerging has unknown value {context!r}:'
                f' {suggest(context, [*CONTEXTS])}'
            )
        if not 0 < ratio <= 1:
            raise UserError(f'ratio of ClusterMerging must be above 0, at most 1, got {ratio!r}')
        check_count('k of ClusterMerging', k)
        check_count('max_tokens of ClusterMerging', max_tokens)
        if noise < 0:
            raise UserError(f'noise of ClusterMerging must be 0 or more, got {noise!r}')
        self.ratio, self.k, self.noise, self.max_tokens = ratio, k, noise, max_tokens
        self.scaled_distance = scaled_distance
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.skip = nn.Conv1d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.LayerNorm(out_channels)
        self.score = nn.Linear(out_channels, 1)
        init_linears(self.score)
        self.stride = 1 if context == 'dense' else 2
        self.context = None
        if context != 'clusters':
            self.context = ContextBranch(in_channels, out_channels, self.stride)

    @property
    def makes_context(self) -> bool:
        return self.context is not None

    def forward(self, x: Tensor | TokenMap) -> TokenMap:
        tokens = x if isinstance(x, TokenMap) else TokenMap.of_map(x)
        self._check_memory(tokens.x)
        grid = tokens.to_map()
        coarse = conv_on_map(self.conv, grid)
        size = coarse.shape[1:3]
        mixed = tokens.with_tokens(
            self.norm(project(self.skip, tokens.x) + tokens.from_map(coarse))
        )
        score = self.score(mixed.x)
        score = score.to(torch.promote_types(score.dtype, torch.float32))
        cluster = self.cluster(mixed.x)
        count = self.count(tokens.x.shape[1])
        merged = mixed.merge(cluster, count, score[..., 0].exp(), size)
        if self.context is None:
            return merged
        if self.stride == 1:
            size = grid.shape[1:3]
            coarse = resize_map(coarse, *size, mode='nearest')
        context = self.context(grid, coarse)
        return merged.with_context(context, tokens.with_tokens(score).to_map(size)[..., 0])

    def count(self, tokens: int) -> int:
        """Number of clusters of so many tokens."""
        # In whole numbers: compilers and exporters follow them to other sizes.
        share = Fraction(self.ratio).limit_denominator(10**6)
        return (tokens * share.numerator + share.denominator - 1) // share.denominator

    def cluster(self, x: Tensor) -> Tensor:
        """Cluster of each of the tokens (B, N, C'), integers (B, N)."""
        return dpc_knn(x, self.count(x.shape[1]), self.k, self.noise, self.scaled_distance)

    def _check_memory(self, x: Tensor) -> None:
        b, n, _ = x.shape
        if n > self.max_tokens:
            need = dpc_knn_bytes(b, n) / 2**30
            raise UserError(
                f'ClusterMerging would need {need:.1f} GiB to cluster {n} tokens of {b} images, more'
                f' than max_tokens={self.max_tokens}: use smaller images, use it after a later'
                ' stage, or raise max_tokens'
            )


def project(conv: nn.Conv1d, tokens: Tensor) -> Tensor:
    """A 1x1 convolution of tokens (B, N, C)."""
    return conv(tokens.transpose(1, 2)).transpose(1, 2)
