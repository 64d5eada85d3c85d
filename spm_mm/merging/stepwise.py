"""Stepwise Patch Merging: "Brain-Inspired Stepwise Patch Merging for Vision Transformers" (SPM),
sections 3.1 and 3.2.

First the multi-scale aggregation (MSA) widens the receptive field at full resolution, then the
guided local enhancement (GLE) halves the map: a guide token gathers each 2x2 window by attention.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.errors import UserError, check_count
from spm_mm.layers import build_norm, conv_on_map, init_convs, init_linears, is_plain
from spm_mm.merging.base import Merging
from spm_mm.ops import (
    guide_output,
    guided_attention,
    is_open,
    pad_to_multiple,
    window_attention,
)
from spm_mm.registry import MODELS, suggest

__all__ = ['GuidedLocalEnhancement', 'MultiScaleAggregation', 'StepwiseMerging']

AGGREGATIONS = ('msa', 'conv')
ENHANCEMENTS = ('gle', 'conv', 'avg_pool')
GUIDES = ('conv', 'avg_pool', 'cls_token', 'gap')
WEIGHTINGS = ('attention', 'dynamic')


class MultiScaleAggregation(nn.Module):
    """MSA (Eq. 1): depth-wise convolutions of several sizes, fused channel by channel.

    The channels are split into as many groups as there are kernels; channel c of every group then
    meets in one grouped 1x1 convolution, and a 1x1 convolution projects.

    Args:
        in_channels: Channels C; a multiple of the number of kernels.
        out_channels: Channels C'.
        kernel_sizes: One odd kernel for each group.
        expand_ratio: Width between the two 1x1 convolutions, in multiples of C.
        norm_cfg: Norm between them, before a GELU. None leaves out both.
        bias: Whether the 1x1 convolutions have a bias.

    Shape: (B, H, W, C) to (B, H, W, C').
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: Sequence[int],
        expand_ratio: int,
        norm_cfg: dict | None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if in_channels % len(kernel_sizes):
            raise UserError(
                f'in_channels of StepwiseMerging must be a multiple of the {len(kernel_sizes)}'
                f' kernel_sizes {tuple(kernel_sizes)}, got {in_channels}'
            )
        group = in_channels // len(kernel_sizes)
        hidden = in_channels * expand_ratio
        self.convs = nn.ModuleList(
            nn.Conv2d(group, group, size, padding=size // 2, groups=group) for size in kernel_sizes
        )
        self.fuse = nn.Conv2d(in_channels, hidden, 1, groups=group, bias=bias)
        self.norm = build_norm(norm_cfg, hidden) if norm_cfg else nn.Identity()
        self.act = nn.GELU() if norm_cfg else nn.Identity()
        self.proj = nn.Conv2d(hidden, out_channels, 1, bias=bias)
        init_convs(self.convs, self.fuse, self.proj)

    def forward(self, x: Tensor) -> Tensor:
        groups = x.chunk(len(self.convs), dim=-1)
        scales = [conv_on_map(conv, group) for conv, group in zip(self.convs, groups, strict=True)]
        x = torch.stack(scales, dim=-1).flatten(3)  # channel c of all groups side by side
        return conv_on_map(lambda t: self.proj(self.act(self.norm(self.fuse(t)))), x)


class GuidedLocalEnhancement(nn.Module):
    """GLE (Eq. 2 to 5): a guide token attends to the four tokens of its 2x2 window.

    Odd sides are padded by one row or column on the right or bottom; the attention leaves the
    padding out. Only the guide's output is kept, which :func:`spm_mm.ops.guided_attention` makes
    cheap.

    Args:
        channels: Channels C; a multiple of ``num_heads``.
        guide: Where the guide comes from, see :class:`StepwiseMerging`.
        guide_kernel_size: Kernel of the guide's convolution or pooling.
        num_heads: Heads G of the attention.
        norm_cfg: Norm of the guide token generator.
        qkv_bias: Whether the projections have a bias.
        token_norm: Whether LayerNorms precede the attention and follow it.
        weighting: ``'attention'`` (Eq. 4) or ``'dynamic'``, see :class:`DynamicWeighting`.
        guide_residual: Whether the guide tokens are added to what they read.

    Shape: (B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), C).
    """

    def __init__(
        self,
        channels: int,
        guide: str,
        guide_kernel_size: int,
        num_heads: int,
        norm_cfg: dict | None,
        qkv_bias: bool = True,
        token_norm: bool = True,
        weighting: str = 'attention',
        guide_residual: bool = False,
    ) -> None:
        super().__init__()
        if guide_residual and guide == 'gap':
            raise UserError("guide_residual of StepwiseMerging needs a guide, got guide='gap'")
        if channels % num_heads:
            raise UserError(
                f'num_heads of StepwiseMerging must divide out_channels={channels}, got {num_heads}'
            )
        self.num_heads = num_heads
        self.guide_residual = guide_residual
        self.guide = None
        if guide == 'conv':
            self.guide = nn.Sequential(
                build_norm(norm_cfg, channels) if norm_cfg else nn.Identity(),
                nn.GELU(),
                nn.Conv2d(
                    channels,
                    channels,
                    guide_kernel_size,
                    stride=2,
                    padding=guide_kernel_size // 2,
                    groups=channels,
                ),
            )
        elif guide == 'avg_pool':
            self.guide = average_pool(guide_kernel_size)
        self.guide_token = None
        if guide == 'cls_token':
            self.guide_token = nn.Parameter(torch.empty(channels))
            nn.init.trunc_normal_(self.guide_token, std=0.02)
        self.token_norm = nn.LayerNorm(channels) if token_norm else nn.Identity()
        self.weighting = None
        if weighting == 'dynamic':
            self.weighting = DynamicWeighting(channels, 4 if guide == 'gap' else 5)
        else:
            self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
            init_linears(self.qkv)
        self.out_norm = nn.LayerNorm(channels) if token_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        corners, mask = split_windows(x)
        b, rows, columns, c = corners[0].shape
        guides = self.make_guides(x, rows, columns)
        if guides is not None:
            corners = (guides, *corners)
            mask = mask if mask is None else F.pad(mask, (1, 0), value=True)
        tokens = self.token_norm(torch.stack(corners, dim=-2)).flatten(0, 2)
        if mask is not None:
            mask = mask.expand(b, rows, columns, -1).flatten(0, 2)
        if self.weighting is not None:
            out = self.weighting(tokens, mask)
        elif guides is not None:
            out = self.attend(tokens, mask)
        else:
            out = masked_mean(window_attention(self.qkv(tokens), self.num_heads, mask), mask)
        out = out.view(b, rows, columns, c)
        return self.out_norm(out + guides if self.guide_residual else out)

    def attend(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """What the guides, the first of the tokens (N, T, C), read in their windows: (N, C)."""
        layer = self.qkv
        if is_plain(layer, nn.Linear):
            return guided_attention(tokens, layer.weight, layer.bias, self.num_heads, mask)
        query, key_value = layer(tokens).split((tokens.shape[-1], 2 * tokens.shape[-1]), dim=-1)
        return guide_output(query[:, 0], key_value, self.num_heads, mask)

    def make_guides(self, x: Tensor, rows: int, columns: int) -> Tensor | None:
        """One guide for each window, (B, rows, columns, C); None where windows are averaged."""
        if self.guide is not None:
            return conv_on_map(self.guide, x)
        if self.guide_token is not None:
            return self.guide_token.expand(x.shape[0], rows, columns, -1)
        return None


class DynamicWeighting(nn.Module):
    """Weighs the tokens of a window channel by channel, as SKNet weighs its branches.

    SPM (section 5.1) tried it in the place of the attention: fewer FLOPs and slightly less accuracy. It
    prints no formula, so this is "Selective Kernel Networks" (Li et al., 2019,
    https://arxiv.org/abs/1903.06586), equations 1 and 3 to 6, with the tokens of a window, the guide
    among them, as the branches: their sum goes through a bottleneck of width max(C / 16, 32), a softmax
    over the tokens makes a weight of each channel of each token, and the weighted tokens are added.
    The norm of the bottleneck is a LayerNorm, where SKNet has a batch norm.

    Args:
        channels: Channels C.
        tokens: Tokens T of a window.

    Shape: tokens (N, T, C) and a mask (N, T), False on padding, or None, to (N, C).
    """

    def __init__(self, channels: int, tokens: int) -> None:
        super().__init__()
        width = max(channels // 16, 32)
        self.reduce = nn.Linear(channels, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.act = nn.ReLU()
        self.expand = nn.Linear(width, tokens * channels)
        init_linears(self.reduce, self.expand)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            tokens = tokens * mask[..., None]
        scores = self.expand(self.act(self.norm(self.reduce(tokens.sum(dim=1)))))
        scores = scores.view(tokens.shape)
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None], float('-inf'))
        return (scores.softmax(dim=1) * tokens).sum(dim=1)


@MODELS.register_module()
class StepwiseMerging(Merging):
    """SPM: multi-scale aggregation, then guided local enhancement.

    The defaults are the official code, which the paper's figures were made with (the parameter
    counts of Table 5 come out with it alone). The paper's equations differ: Eq. 1 has no expansion,
    bias, norm or activation between its two projections, and Eq. 4 has one head, no bias and no
    LayerNorm around the attention; ``paper_equations=True`` builds those. The kernels of MSA and the
    treatment of odd sides are not in the paper: the kernels are the official code's; an odd side,
    which the official code refuses, is padded on the right or bottom and masked.

    Args:
        in_channels: Channels C of the stage before; a multiple of the number of kernels.
        out_channels: Channels C' of the stage after; a multiple of ``num_heads``.
        aggregation: ``'msa'``, or ``'conv'`` for a 3x3 convolution (Table 5).
        enhancement: ``'gle'``, or ``'conv'`` for a 2x2 convolution and ``'avg_pool'`` for 3x3 average
            pooling, both with stride 2 (Table 5).
        guide: Guide of GLE: ``'conv'`` is the guide token generator (norm, GELU, depth-wise
            convolution), ``'avg_pool'`` an average pooling in its place (Table 5), ``'cls_token'``
            one learned token for all windows, ``'gap'`` no guide but the average of the window's
            outputs (Table 6).
        guide_kernel_size: Kernel of the guide's convolution or pooling, odd, 1 to 31 (Table 7).
        num_heads: Heads of the attention inside a window.
        kernel_sizes: Kernels of MSA, odd.
        expand_ratio: Expansion inside MSA.
        norm_cfg: Norm of MSA and of the guide token generator. Both keep running statistics: with
            few images a device use ``dict(type='SyncBN')``.
        paper_equations: Build Eq. 1 and 4 as printed; overrides ``expand_ratio``, ``num_heads`` and
            the norms around them.
        weighting: How GLE weighs a window: ``'attention'`` (Eq. 4), or ``'dynamic'``, as SKNet does,
            which the authors tried first (section 5.1).
        guide_residual: Whether guide tokens are added to what they read, which the authors tried first
            and left out (section 5.3). The paper does not say where; here it is before the last norm.

    Shape: (B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), C').

    Raises:
        ValueError: If a choice is not among those named, a kernel is not odd and positive, or the
            channels cannot be split.
    """

    rounds_up = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        aggregation: str = 'msa',
        enhancement: str = 'gle',
        guide: str = 'conv',
        guide_kernel_size: int = 7,
        num_heads: int = 8,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        expand_ratio: int = 2,
        norm_cfg: dict | None = None,
        paper_equations: bool = False,
        weighting: str = 'attention',
        guide_residual: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels)
        choices = {
            'aggregation': AGGREGATIONS, 'enhancement': ENHANCEMENTS, 'guide': GUIDES,
            'weighting': WEIGHTINGS,
        }  # fmt: skip
        chosen = {
            'aggregation': aggregation, 'enhancement': enhancement, 'guide': guide,
            'weighting': weighting,
        }  # fmt: skip
        for name, allowed in choices.items():
            if chosen[name] not in allowed:
                raise UserError(
                    f'{name} of StepwiseMerging has unknown value {chosen[name]!r}:'
                    f' {suggest(chosen[name], list(allowed))}'
                )
        if not kernel_sizes:
            raise UserError('kernel_sizes of StepwiseMerging must not be empty')
        for size in kernel_sizes:
            check_count('each of kernel_sizes', size, odd=True)
        check_count('num_heads of StepwiseMerging', num_heads)
        check_count('expand_ratio of StepwiseMerging', expand_ratio)
        check_count('guide_kernel_size', guide_kernel_size, 1, 31, odd=True)
        norm_cfg = dict(norm_cfg or {'type': 'BN'})

        if aggregation == 'conv':
            self.aggregation = _OnMap(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        elif paper_equations:
            self.aggregation = MultiScaleAggregation(
                in_channels, out_channels, kernel_sizes, 1, norm_cfg=None, bias=False
            )
        else:
            self.aggregation = MultiScaleAggregation(
                in_channels, out_channels, kernel_sizes, expand_ratio, norm_cfg
            )
        if enhancement == 'conv':
            self.enhancement = _OnMap(nn.Conv2d(out_channels, out_channels, 2, stride=2), pad=True)
        elif enhancement == 'avg_pool':
            self.enhancement = _OnMap(average_pool(3))
        else:
            self.enhancement = GuidedLocalEnhancement(
                out_channels,
                guide,
                guide_kernel_size,
                num_heads=1 if paper_equations else num_heads,
                norm_cfg=norm_cfg,
                qkv_bias=not paper_equations,
                token_norm=not paper_equations,
                weighting=weighting,
                guide_residual=guide_residual,
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.enhancement(self.aggregation(x))


class _OnMap(nn.Module):
    """A (B, C, H, W) layer on a channels-last map, with odd sides padded by zeros if ``pad``."""

    def __init__(self, layer: nn.Module, pad: bool = False) -> None:
        super().__init__()
        self.layer = layer
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        return conv_on_map(self.layer, pad_to_multiple(x, 2) if self.pad else x)


def average_pool(kernel_size: int) -> nn.Module:
    """Average pooling to half the sides, rounded up; padding does not count in an average."""
    return nn.AvgPool2d(kernel_size, stride=2, padding=kernel_size // 2, count_include_pad=False)


def split_windows(x: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Split (B, H, W, C) into windows of 2x2.

    Returns:
        The four tokens of all windows, window rows first, views (B, ceil(H / 2), ceil(W / 2), C), and a
        mask (1, ceil(H / 2), ceil(W / 2), 4) that is False on padding; None where nothing was padded.
    """
    _, h, w, _ = x.shape
    mask = None
    if is_open(h, w) or h % 2 or w % 2:
        mask = torch.cat(
            _split(pad_to_multiple(x.new_ones(1, h, w, 1, dtype=torch.bool), 2)), dim=-1
        )
    return _split(pad_to_multiple(x, 2)), mask


def _split(x: Tensor) -> tuple[Tensor, ...]:
    b, h, w, c = x.shape
    rows = x.view(b, h // 2, 2, w // 2, 2, c).unbind(2)
    return tuple(corner for row in rows for corner in row.unbind(3))


def masked_mean(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the tokens (N, T, C) that ``mask`` (N, T) lets pass."""
    if mask is None:
        return tokens.mean(dim=1)
    weight = mask / mask.sum(dim=1, keepdim=True)
    return (tokens * weight[..., None].to(tokens.dtype)).sum(dim=1)
