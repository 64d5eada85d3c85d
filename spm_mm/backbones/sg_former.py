"""SG-Former: "SG-Former: Self-guided Transformer with Evolving Token Reallocation",
https://arxiv.org/abs/2308.12216.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from spm_mm.attention import HybridScaleAttention, LocallyEnhancedAttention, SelfGuidedAttention
from spm_mm.backbones.hierarchical import HierarchicalBackbone
from spm_mm.backbones.stage import Stage
from spm_mm.errors import UserError, check_count
from spm_mm.layers import (
    ConvNormAct,
    DepthwiseMLP,
    PositionEmbedding,
    conv_on_map,
    init_convs,
    sine_cosine_table,
)
from spm_mm.registry import MODELS

__all__ = ['SGFormer']

SCALES = ((8, 1), (4, 1), (2, 1))
REGIONS = (
    ((1, 196), (2, 56), (1, 28)),
    ((1, 49), (2, 14), (1, 7)),
    ((1, 2), (1, 1)),
)


class SGFormerStem(nn.Module):
    """Three 3x3 convolutions of strides 2, 1, 2, each with a group norm of one group; a LayerNorm.

    Shape: image (B, C_in, H, W) to map (B, ceil(H / 4), ceil(W / 4), C_out).
    """

    rounds_up = True

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        norm_cfg = {'type': 'GN', 'num_groups': 1}
        self.convs = nn.Sequential(
            ConvNormAct(in_channels, out_channels, 3, norm_cfg, stride=2),
            ConvNormAct(out_channels, out_channels, 3, norm_cfg),
            ConvNormAct(out_channels, out_channels, 3, norm_cfg, act=False, stride=2),
        )
        self.norm = nn.LayerNorm(out_channels)
        init_convs(self.convs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(conv_on_map(self.convs, x.permute(0, 2, 3, 1)))


class SGFormerBlock(nn.Module):
    """Pre-norm block: one of the three kinds of attention, then an MLP with a depth-wise convolution.

    Shape: map (B, H, W, C) and the significance (B, H, W) of the block before, or None, to a map and
    the significance for the block after, or None.
    """

    def __init__(
        self,
        attn: HybridScaleAttention | LocallyEnhancedAttention,
        channels: int,
        mlp_ratio: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = attn
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = DepthwiseMLP(channels, mlp_ratio, shortcut=True)
        init_convs(self.mlp)
        self.drop_path = StochasticDepth(drop_path, 'row')

    def forward(self, x: Tensor, significance: Tensor | None) -> tuple[Tensor, Tensor | None]:
        out, significance = self.attn(self.norm1(x), significance)
        x = x + self.drop_path(out)
        return x + self.drop_path(self.mlp(self.norm2(x))), significance


class SGFormerStage(Stage):
    """The blocks, with the significance from one to the next.

    Shape: feature map (B, H, W, C) to a feature map (B, H, W, C) and None.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        x = self.embed(x)
        significance = None
        for block in self.blocks:
            x, significance = self.run(block, x, significance)
        return self.norm(x), None


@MODELS.register_module()
class SGFormer(HierarchicalBackbone):
    """SG-Former at any image size.

    In stages 1 to 3 hybrid-scale and self-guided blocks take turns (Eq. 6 and 7): the first find out
    which tokens receive attention, the next give those more of the few tokens that all attend to.
    Stage 4 has plain blocks. The normed map of each stage is its output and the input of the next.

    The defaults are the released code, which made the published numbers: two scales in every stage
    and model, three regions in stages 1 and 2. The paper's Table 1 is had by
    ``regions=[[[1, 196], [1, 56], [1, 56], [1, 28]], [[1, 49], [1, 14], [1, 14], [1, 7]],
    [[1, 2], [1, 1]]]``, its scales of the base model by ``scales=[[8, 4, 2, 1], [4, 2, 1], [2, 1]]``,
    and windows for merged tokens by ``in_windows=True``. The configs ``sgformer_*_paper_*`` set all of
    these. At 224 pixels the merged tokens of the released code are one window in any case. Away from it
    the printed FLOPs come nearer with windows, but the released code, which is what can be compared,
    has none at 448 and 672.

    **Sizes.** The released code runs at 224, 448 and 672 pixels squared, each with its own
    ``img_size``. Here every size works, and at those three nothing of the following applies:

    - the position table is resized bilinearly, and is trained as in the released code;
    - overhanging 7x7 windows are padded at the right and bottom and the padding is masked; their
      share of the significance map is scaled so that its mean over the tokens is that of full windows;
    - a merging patch of the hybrid-scale attention that overhangs reads zeros, so that every cell
      belongs to one merged token;
    - regions keep their shares of the tokens and their rates, so that the number of aggregated tokens
      grows with the image; where a rate does not divide a region, the sorted tokens are spread evenly
      over whole runs (:func:`spm_mm.ops.sorted_runs`).

    The global half of the significance has the mean 1 / (number of merged tokens) and the local half
    1 / 49, as in the released code: they weigh alike at 224, and the global half less in larger images.

    **Batches.** None of this padding reaches a feature. That of a batch does: the features of an image
    change when it is padded, because the group norms of stem and mergings take their statistics from
    the whole padded map, the position table is resized to it, and padding is sorted with the tokens.
    The other images of the batch have no influence.

    **Precision.** Tokens of nearly equal significance change places with precision, device and batch
    size; float32 and float64 outputs of the same weights differ by some percent, as those of the
    released code do.

    **Compiling.** ``torch.compile`` takes the forward pass as one graph, with sorting and gathering,
    for images of a fixed size (``dynamic=False``). With dynamic sizes tracing takes many minutes, so
    :attr:`compilable` is False. ``torch.export`` takes dynamic sizes, with an example of 224 pixels or
    more: in a smaller one some numbers of windows are 1, which the graph then holds for.

    Args:
        arch: ``'small'``, ``'medium'``, ``'base'`` or a dict with the keys of :attr:`arch_settings`.
        merging: One config for the three transitions or a list of three. Default: SG-Former's own,
            ``dict(type='SGFormerMerging')``.
        scales: For stages 1 to 3 the scales of the groups of heads in a hybrid-scale block: 1 for
            windows of single tokens, s > 1 for tokens merged s x s. ``[[1], [1], [1]]`` and
            ``[[8], [4], [2]]`` are the single scales of Table 6.
        regions: For stages 1 to 3 the share of tokens and the aggregation rate of each region, from
            the least to the most significant. None: hybrid-scale blocks only.
        guide: What makes the significance (Table 7): ``'hybrid'``, ``'local'``, ``'global'`` or
            ``'manual'``, which gives every token the same, so that they are grouped in row-major order.
        window_size: Rows and columns of a window.
        in_windows: Whether merged tokens are read inside windows of ``window_size`` x ``window_size``
            of them, as in the paper, not all by every query.
        qkv_bias: Whether query, key and value projections have a bias.
        img_size: Side of the image in pixels that the position table is made for.
        significance_over_map: Whether the significance of every group of heads is divided by hw, as
            Eq. 5 prints, not by the queries of its windows, as the released code does.
        kwargs: Options of :class:`~spm_mm.backbones.hierarchical.HierarchicalBackbone`.

    Shape: image (B, 3, H, W), H and W at least 32, to maps of 64, 128, 256 and 512 channels (base: 96,
    192, 384 and 768) with ceil(H / 4), ceil(H / 8), ceil(H / 16) and ceil(H / 32) rows, or to one
    vector (B, 512).
    """

    arch_settings = {
        name: {'embed_dims': dims, 'depths': depths, 'num_heads': heads, 'mlp_ratios': (4, 4, 4, 4)}
        for name, dims, depths, heads in (
            ('small', (64, 128, 256, 512), (2, 4, 16, 1), (2, 4, 8, 16)),
            ('medium', (64, 128, 256, 512), (2, 6, 28, 2), (2, 4, 8, 16)),
            ('base', (96, 192, 384, 768), (4, 6, 24, 2), (4, 6, 12, 24)),
        )
    }
    default_merging = {'type': 'SGFormerMerging'}
    # Of one size it compiles as one graph. With dynamic sizes tracing takes many minutes: windows, runs
    # and merged tokens make long expressions of the image's sides.
    compilable = False
    exports_any_size = True  # which `torch.export` takes

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'small',
        merging: dict | Sequence[dict] | None = None,
        scales: Sequence[Sequence[int]] = SCALES,
        regions: Sequence[Sequence[tuple[int, int]]] | None = REGIONS,
        guide: str = 'hybrid',
        window_size: int = 7,
        in_windows: bool = False,
        qkv_bias: bool = True,
        img_size: int = 224,
        significance_over_map: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        for name, lists in (('scales', scales), ('regions', regions)):
            if lists is not None and len(lists) != len(self.depths) - 1:
                raise UserError(
                    f'{name} must have one entry for each of stages 1 to {len(self.depths) - 1}, got'
                    f' {lists!r}'
                )
        check_count('img_size', img_size, self.min_size)
        self.scales = scales
        self.regions = regions
        self.guide = guide
        self.window_size = window_size
        self.in_windows = in_windows
        self.qkv_bias = qkv_bias
        self.img_size = img_size
        self.significance_over_map = significance_over_map
        self.build(merging)

    def build_stem(self) -> nn.Module:
        return SGFormerStem(self.in_channels, self.embed_dims[0])

    def build_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        attention = self.build_attention(stage, index)
        channels, ratio = self.embed_dims[stage], self.arch['mlp_ratios'][stage]
        return SGFormerBlock(attention, channels, ratio, drop_path)

    def build_attention(self, stage: int, index: int) -> nn.Module:
        channels, heads = self.embed_dims[stage], self.arch['num_heads'][stage]
        if stage == len(self.depths) - 1:
            return LocallyEnhancedAttention(channels, heads, self.qkv_bias)
        if self.regions is not None and index % 2:
            return SelfGuidedAttention(channels, heads, self.regions[stage], self.qkv_bias)
        guides_next = self.regions is not None and index + 1 < self.depths[stage]
        return HybridScaleAttention(
            channels,
            heads,
            self.scales[stage],
            self.window_size,
            self.qkv_bias,
            self.guide if guides_next else None,
            self.in_windows,
            over_map=self.significance_over_map,
        )

    def build_stage(self, stage: int, blocks: list[nn.Module]) -> Stage:
        channels, position = self.embed_dims[stage], None
        if stage == 0:
            side = -(-self.img_size // 4)
            position = PositionEmbedding((side, side), channels)
            with torch.no_grad():
                position.table.copy_(sine_cosine_table(side, side, channels))
        return SGFormerStage(blocks, nn.LayerNorm(channels, eps=1e-6), position)
