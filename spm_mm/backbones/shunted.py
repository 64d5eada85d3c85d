"""Shunted Transformer: "Shunted Self-Attention via Multi-Scale Token Aggregation",
https://arxiv.org/abs/2111.15193.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from spm_mm.attention import LocalValueAttention, ShuntedAttention
from spm_mm.backbones.hierarchical import HierarchicalBackbone
from spm_mm.backbones.stage import Stage
from spm_mm.errors import check_count
from spm_mm.layers import DepthwiseMLP, TransformerBlock, build_norm, conv_on_map, init_convs
from spm_mm.merging import ConvMerging
from spm_mm.registry import MODELS

__all__ = ['ShuntedTransformer']


class ShuntedStem(nn.Module):
    """A 7x7 convolution of stride 2, 3x3 convolutions, a 2x2 convolution of stride 2, a LayerNorm.

    A norm and a ReLU follow all convolutions but the last.

    Args:
        in_channels: Channels of the image.
        out_channels: Width of the first stage.
        extra_convs: Number of 3x3 convolutions.
        norm_cfg: Norm behind them and the 7x7 convolution.

    Shape: image (B, C_in, H, W) to map (B, floor(ceil(H / 2) / 2), floor(ceil(W / 2) / 2), C_out).
    """

    def __init__(
        self, in_channels: int, out_channels: int, extra_convs: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        check_count('stem_convs', extra_convs, 0)
        layers: list[nn.Module] = []
        for i in range(1 + extra_convs):
            size, stride, width = (3, 1, out_channels) if i else (7, 2, in_channels)
            layers += [
                nn.Conv2d(width, out_channels, size, stride, padding=size // 2, bias=False),
                build_norm(norm_cfg, out_channels),
                nn.ReLU(),
            ]
        self.convs = nn.Sequential(*layers, nn.Conv2d(out_channels, out_channels, 2, stride=2))
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(conv_on_map(self.convs, x.permute(0, 2, 3, 1)))


@MODELS.register_module()
class ShuntedTransformer(HierarchicalBackbone):
    """Shunted Transformer with any patch merging between its stages.

    In stages 1 to 3 half of the heads read the map at a coarse scale and the others at a fine one;
    stage 4 has plain attention. The MLP has a depth-wise convolution with a shortcut of its own. The
    normed map of each stage is its output and what the next reads; the official code, a classifier
    alone, has no dense form. A classifier takes ``out_type='avg_featmap'``.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'`` or a dict with the keys of :attr:`arch_settings`.
            ``sr_ratios`` are even, or 1 for plain attention; ``stem_convs`` counts the 3x3
            convolutions of the stem.
        merging: One config for the three transitions or a list of three. Default: Shunted's own 3x3
            convolution, ``dict(type='ConvMerging', kernel_size=3)``.
        qkv_bias: Whether query, key and value projections have a bias.
        norm_cfg: Norm between the convolutions of the stem. Default: ``dict(type='BN')``, as published,
            which keeps running statistics: with few images a device use ``dict(type='SyncBN')``.
        kwargs: Options of :class:`~spm_mm.backbones.hierarchical.HierarchicalBackbone`.

    Shape: image (B, 3, H, W), H and W at least 32, to maps of 64, 128, 256 and 512 channels at strides
    4, 8, 16 and 32, or to one vector (B, 512). The stem makes floor(ceil(H / 2) / 2) rows of H, the
    mergings round up.
    """

    arch_settings = {
        name: {
            'embed_dims': (64, 128, 256, 512),
            'depths': depths,
            'num_heads': (2, 4, 8, 16),
            'mlp_ratios': (8, 8, 4, 4),
            'sr_ratios': (8, 4, 2, 1),
            'stem_convs': stem_convs,
        }
        for name, depths, stem_convs in (
            ('tiny', (1, 2, 4, 1), 0),
            ('small', (2, 4, 12, 1), 1),
            ('base', (3, 4, 24, 2), 2),
        )
    }

    default_merging = {'type': 'ConvMerging', 'kernel_size': 3}

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        merging: dict | Sequence[dict] | None = None,
        qkv_bias: bool = True,
        norm_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        self.qkv_bias = qkv_bias
        self.norm_cfg = norm_cfg or {'type': 'BN'}
        self.build(merging)

    def build_stem(self) -> nn.Module:
        extra_convs = self.arch['stem_convs']
        return ShuntedStem(self.in_channels, self.embed_dims[0], extra_convs, self.norm_cfg)

    def build_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        channels, heads = self.embed_dims[stage], self.arch['num_heads'][stage]
        sr_ratio = self.arch['sr_ratios'][stage]
        if sr_ratio == 1:
            attention = LocalValueAttention(channels, heads, self.qkv_bias)
        else:
            attention = ShuntedAttention(channels, heads, sr_ratio, self.qkv_bias)
        mlp = DepthwiseMLP(channels, self.arch['mlp_ratios'][stage], shortcut=True)
        return TransformerBlock(channels, attention, mlp, drop_path)

    def build_stage(self, stage: int, blocks: list[nn.Module]) -> Stage:
        return Stage(blocks, nn.LayerNorm(self.embed_dims[stage], eps=1e-6))

    def init_parts(self) -> None:
        # Other mergings know best how to start.
        own = [merging for merging in self.mergings if isinstance(merging, ConvMerging)]
        init_convs(self.stem, self.stages, *own)
