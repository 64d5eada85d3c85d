"""Attention of SG-Former: "SG-Former: Self-guided Transformer with Evolving Token Reallocation",
https://arxiv.org/abs/2308.12216, sections 3.2 and 3.3.

All three kinds read a map and the significance that the block before left, or None, and return a map
and the significance that they leave, or None. So one block takes any of them.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.attention.spatial_reduction import SpatialReductionAttention
from spm_mm.errors import UserError, check_count, check_heads
from spm_mm.layers import conv_on_map, init_convs, init_linears
from spm_mm.ops import (
    from_windows,
    is_open,
    pad_to_multiple,
    received_attention,
    sorted_runs,
    to_windows,
)
from spm_mm.registry import suggest

GUIDES = ('hybrid', 'local', 'global', 'manual')


class LocalPosition(nn.Module):
    """Locally enhanced position encoding (LePE): a linear layer, then a depth-wise 3x3 convolution.

    The official code adds it to the attention's output in all blocks; the paper's text does not.

    Shape: map (B, H, W, C) to the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        init_convs(self.conv)
        init_linears(self.linear)

    def forward(self, x: Tensor) -> Tensor:
        return conv_on_map(self.conv, self.linear(x))


class LocallyEnhancedAttention(SpatialReductionAttention):
    """Plain multi-head attention with locally enhanced position encoding: SG-Former's last stage.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G; must divide ``channels``.
        qkv_bias: Whether query, key and value projections have a bias.

    Shape: map (B, H, W, C) to a map (B, H, W, C) and None. The significance is not read.
    """

    def __init__(self, channels: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__(channels, num_heads, qkv_bias=qkv_bias)
        self.lepe = LocalPosition(channels)

    def context(self, x: Tensor, significance: Tensor | None) -> Tensor:
        """Tokens (B, M, C) that keys and values are made of: here all of them."""
        return x

    def forward(self, x: Tensor, significance: Tensor | None = None) -> tuple[Tensor, None]:
        return self.proj(self.attend(x, self.context(x, significance)) + self.lepe(x)), None


class SelfGuidedAttention(LocallyEnhancedAttention):
    """All tokens attend to few, of which the significant regions supply more (Eq. 1 and 2).

    The tokens are sorted by significance and divided into regions; in a region of aggregation rate r
    runs of r sorted tokens become one by a learned weighted sum. See
    :func:`spm_mm.ops.sorted_runs` for token counts that the rates do not divide.

    The official code sorts twice, from row-major and from column-major order, with the same weights
    for the sums, and gives each half of the heads its own keys and values. Both orders sort to the
    same sequence, except that tokens of exactly the same significance change places; this class sorts
    once, and equal tokens stay in row-major order.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G; must divide ``channels``.
        regions: Share of the tokens and aggregation rate of each region, from the least to the most
            significant: ``((1, 196), (2, 56), (1, 28))`` is a quarter, a half and a quarter.
        qkv_bias: Whether query, key and value projections have a bias.

    Shape: map (B, H, W, C) and significance (B, H, W) to a map (B, H, W, C) and None.

    Raises:
        ValueError: If ``regions`` is empty or has a share or a rate below 1, or a map has fewer cells
            than the sum of the shares.
    """

    discontinuous: ClassVar[bool] = True
    """Outputs jump where two significances are nearly equal."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        regions: Sequence[tuple[int, int]],
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(channels, num_heads, qkv_bias)
        self.regions = tuple(map(tuple, regions))
        if not self.regions or any(len(region) != 2 for region in self.regions):
            raise UserError(
                'regions must be pairs (share, rate), from the least to the most significant, got'
                f' {regions!r}'
            )
        for share, rate in self.regions:
            check_count('each share of regions', share)
            check_count('each rate of regions', rate)
        self.aggregate = nn.ModuleList(nn.Linear(rate, 1) for _, rate in self.regions)
        init_linears(self.aggregate)

    def runs(self, significance: Tensor) -> list[Tensor]:
        """Tokens that become one: for each region indices (B, M, rate) into the row-major tokens."""
        shares = sum(share for share, _ in self.regions)
        tokens = significance.flatten(1)
        if tokens.shape[1] < shares:
            raise UserError(
                f'regions {self.regions} need a map of at least {shares} cells, got'
                f' {significance.shape[1]} x {significance.shape[2]}'
            )
        return sorted_runs(tokens, self.regions)

    def context(self, x: Tensor, significance: Tensor | None) -> Tensor:
        b, _, _, c = x.shape
        tokens = x.flatten(1, 2)
        merged = []
        for linear, run in zip(self.aggregate, self.runs(significance), strict=True):
            m, rate = run.shape[1:]
            index = run.reshape(b, m * rate, 1).expand(-1, -1, c)
            sequence = tokens.gather(1, index).view(b, m, rate, c)
            merged.append(linear(sequence.transpose(2, 3)).squeeze(3))
        return torch.cat(merged, dim=1)


class ScaleAttention(nn.Module):
    """One group of heads of the hybrid-scale attention: all of them read at one scale.

    With ``scale=1`` attention stays inside windows. With a larger one a convolution of kernel and
    stride ``scale`` merges the tokens for keys and values, and every query reads all merged tokens, or
    with ``in_windows`` those of its window of ``window_size`` x ``window_size`` merged tokens.

    Overhanging windows are padded on the right and bottom and the padding is masked: no query reads
    it and none of its queries counts. A merging patch that overhangs reads zeros there; without
    ``keep_border`` it is left out, and the significance of the others stretched over the map.

    Shape: map (B, H, W, C) to a map (B, H, W, C_out) and, if ``significance`` is asked for, what each
    token receives, (B, H, W), else None.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        num_heads: int,
        scale: int,
        window_size: int,
        in_windows: bool,
        keep_border: bool,
        qkv_bias: bool,
        over_map: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.over_map = over_map
        self.scale = scale
        self.window_size = window_size
        self.in_windows = in_windows or scale == 1
        self.keep_border = keep_border
        if scale > 1:
            self.merge = nn.Conv2d(channels, channels, scale, stride=scale)
            self.norm = nn.LayerNorm(channels)
            self.act = nn.GELU()
            init_convs(self.merge)
        self.q = nn.Linear(channels, out_channels, bias=qkv_bias)
        self.kv = nn.Linear(channels, 2 * out_channels, bias=qkv_bias)
        init_linears(self.q, self.kv)

    def forward(self, x: Tensor, significance: bool) -> tuple[Tensor, Tensor | None]:
        b, h, w, _ = x.shape
        context = x
        if self.scale > 1:
            whole = pad_to_multiple(x, self.scale) if self.keep_border else x
            context = self.act(self.norm(conv_on_map(self.merge, whole)))
        q, (k, v) = self.q(x), self.kv(context).chunk(2, dim=-1)
        rows, columns = k.shape[1:3]
        side, span = self.window_size, self.window_size * self.scale
        key_mask = query_mask = None
        if self.in_windows:
            if is_open(h, w) or h % span or w % span:
                query_mask, key_mask = (
                    to_windows(t.new_ones(1, *t.shape[1:3], 1, dtype=torch.bool), size)
                    .expand(b, -1, -1, -1)
                    .flatten(0, 1)[..., 0]
                    for t, size in ((q, span), (k, side))
                )
            q, k, v = (to_windows(t, size) for t, size in ((q, span), (k, side), (v, side)))
        else:
            q, k, v = (t.flatten(1, 2)[:, None] for t in (q, k, v))
        windows = q.shape[1]
        q, k, v = (self._heads(t) for t in (q, k, v))
        out, received = self.weigh(q, k, v, key_mask, query_mask, significance)
        out = out.transpose(1, 2).reshape(b, windows, q.shape[2], -1)
        out = from_windows(out, span, h, w) if self.in_windows else out.view(b, h, w, -1)
        if received is None:
            return out, None
        if self.over_map:
            received = received * (q.shape[2] / (h * w))
        received = received.view(b, windows, -1, 1)
        if self.in_windows:
            received = from_windows(received, side, rows, columns)
        received = received.reshape(b, 1, rows, columns)
        cells = (rows * self.scale, columns * self.scale) if self.keep_border else (h, w)
        return out, F.interpolate(received, size=cells)[:, 0, :h, :w]

    def weigh(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        key_mask: Tensor | None,
        query_mask: Tensor | None,
        significance: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """What (N, G, T, D) queries read, and, if asked for, what each key receives, (N, S)."""
        attn_mask = None if key_mask is None else key_mask[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return out, received_attention(q, k, key_mask, query_mask) if significance else None

    def _heads(self, windows: Tensor) -> Tensor:
        """(B, windows, T, C_out) to (B * windows, G, T, D)."""
        return windows.flatten(0, 1).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class HybridScaleAttention(nn.Module):
    """Groups of heads that read at different scales, and the significance of tokens (Eq. 3 to 5).

    The significance of a token is the attention that it receives: within a group of heads the mean
    over the heads and over the queries of the window (or of the map), where a merged token stands for
    all its cells, summed over the groups. It has no gradient.

    The official code divides by the queries of the window, Eq. 5 by those of the map, hw, for every
    group: then the groups in windows weigh less, by the share of a window in the map.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G; must divide ``channels``.
        scales: Scale of each group of heads, 1 for windows of single tokens; their number must divide
            ``num_heads``. The official code has two groups, ``(reduction, 1)``.
        window_size: Rows and columns of a window, in tokens of its scale.
        qkv_bias: Whether query, key and value projections have a bias.
        guide: Groups whose attention makes the significance: ``'hybrid'`` all, ``'local'`` those of
            scale 1, ``'global'`` the others; ``'manual'`` gives every token the same; None makes none.
        in_windows: Whether groups of merged tokens stay inside windows, too, as the paper says; the
            official code lets them read the whole map.
        over_map: Whether the significance of every group is divided by hw, as in Eq. 5, not by the
            queries of its windows.
        keep_border: Whether cells on the right and bottom that fill no merging patch are merged with
            zeros. False leaves them out, as the official code does at the one size of image where it
            meets any, 112 x 448.

    Shape: map (B, H, W, C) to a map (B, H, W, C) and significance (B, H, W), or None.

    Raises:
        ValueError: If an argument does not fit; the message says what does.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        scales: Sequence[int],
        window_size: int = 7,
        qkv_bias: bool = True,
        guide: str | None = 'hybrid',
        in_windows: bool = False,
        keep_border: bool = True,
        over_map: bool = False,
    ) -> None:
        super().__init__()
        check_heads(channels, num_heads)
        check_count('window_size', window_size)
        if not scales or num_heads % len(scales):
            raise UserError(
                f'scales must be as many as divide num_heads, got scales={tuple(scales)},'
                f' num_heads={num_heads}'
            )
        for scale in scales:
            check_count('each of scales', scale)
        if guide is not None and guide not in GUIDES:
            raise UserError(f'guide has unknown value {guide!r}: {suggest(guide, [*GUIDES])}')
        self.guide = guide
        self.guiding = tuple(
            guide == 'hybrid' or guide == ('local' if scale == 1 else 'global') for scale in scales
        )
        if guide in ('hybrid', 'local', 'global') and not any(self.guiding):
            raise UserError(f'guide={guide!r} finds no such group in scales={tuple(scales)}')
        groups = len(scales)
        self.groups = nn.ModuleList(
            ScaleAttention(
                channels, channels // groups, num_heads // groups, scale, window_size, in_windows,
                keep_border, qkv_bias, over_map,
            )
            for scale in scales
        )  # fmt: skip
        self.lepe = LocalPosition(channels)
        self.proj = nn.Linear(channels, channels)
        init_linears(self.proj)

    def forward(
        self, x: Tensor, significance: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        outs, maps = zip(
            *(group(x, wanted) for group, wanted in zip(self.groups, self.guiding, strict=True)),
            strict=True,
        )
        out = self.proj(torch.cat(outs, dim=-1) + self.lepe(x))
        if self.guide == 'manual':
            return out, x.new_ones(x.shape[:3])
        return out, sum(m for m in maps if m is not None) if any(self.guiding) else None
