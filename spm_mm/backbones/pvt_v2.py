"""PVTv2: "PVTv2: Improved Baselines with Pyramid Vision Transformer",
https://arxiv.org/abs/2106.13797.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from spm_mm.attention import PooledReductionAttention, SpatialReductionAttention
from spm_mm.backbones.hierarchical import HierarchicalBackbone
from spm_mm.backbones.stage import Stage
from spm_mm.layers import (
    DepthwiseMLP,
    OverlapStem,
    TokenBlock,
    TokenDepthwiseMLP,
    TransformerBlock,
    init_convs,
)
from spm_mm.merging import ClusterMerging, ConvMerging
from spm_mm.registry import MODELS

__all__ = ['PVTv2']


@MODELS.register_module()
class PVTv2(HierarchicalBackbone):
    """PVTv2 with any patch merging between its stages.

    PVT with overlapping patches, a depth-wise convolution in the MLP instead of position tables and a
    norm behind each stage, which the next stage and dense heads read. A classifier takes
    ``out_type='avg_featmap'``. In ``'b2-li'`` keys and values come from maps pooled to 7x7.

    Behind a :class:`~spm_mm.merging.ClusterMerging` the blocks are TCFormer's, as in HAFA's code: the
    convolution of the MLP runs on the map of the tokens, beside a weight for each channel of a token,
    and the importance of the context's cells is added to the logits of the first attention.

    Args:
        arch: ``'b0'`` to ``'b5'``, ``'b2-li'``, SegFormer's encoders ``'mit-b0'`` to ``'mit-b5'`` or a
            dict with the keys of :attr:`arch_settings`. MiT is PVTv2 with an MLP ratio of 4 in every
            stage (SegFormer, https://arxiv.org/abs/2105.15203), so ``'mit-b5'`` is ``'b5'``.
            ``linear`` there is the attention of ``'b2-li'``, which has no use for ``sr_ratios``; the
            official code then also puts a ReLU before the MLP's convolution.
        merging: One config for the three transitions or a list of three. Default: PVTv2's own 3x3
            convolution, ``dict(type='ConvMerging', kernel_size=3)``.
        qkv_bias: Whether query, key and value projections have a bias.
        kwargs: Options of :class:`~spm_mm.backbones.hierarchical.HierarchicalBackbone`.

    Shape: image (B, 3, H, W), H and W at least 32, to maps of 64, 128, 320 and 512 channels (b0: 32,
    64, 160 and 256) at strides 4, 8, 16 and 32, sides rounded up, or to one vector (B, C).
    """

    arch_settings = {
        name: {
            'embed_dims': (32, 64, 160, 256) if name.endswith('b0') else (64, 128, 320, 512),
            'depths': depths,
            'num_heads': (1, 2, 5, 8),
            'mlp_ratios': (4, 4, 4, 4) if name == 'b5' or 'mit' in name else (8, 8, 4, 4),
            'sr_ratios': (8, 4, 2, 1),
            'linear': name == 'b2-li',
        }
        for name, depths in {
            'b0': (2, 2, 2, 2),
            'b1': (2, 2, 2, 2),
            'b2': (3, 4, 6, 3),
            'b2-li': (3, 4, 6, 3),
            'b3': (3, 4, 18, 3),
            'b4': (3, 8, 27, 3),
            'b5': (3, 6, 40, 3),
            'mit-b0': (2, 2, 2, 2),
            'mit-b1': (2, 2, 2, 2),
            'mit-b2': (3, 4, 6, 3),
            'mit-b3': (3, 4, 18, 3),
            'mit-b4': (3, 8, 27, 3),
            'mit-b5': (3, 6, 40, 3),
        }.items()
    }
    default_merging = {'type': 'ConvMerging', 'kernel_size': 3}
    takes_tokens = True
    out_types = (*HierarchicalBackbone.out_types, 'tokens')

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'b1',
        merging: dict | Sequence[dict] | None = None,
        qkv_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        self.qkv_bias = qkv_bias
        self.build(merging)

    def build_stem(self) -> nn.Module:
        return OverlapStem(self.in_channels, self.embed_dims[0])

    def build_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        channels, ratio = self.embed_dims[stage], self.arch['mlp_ratios'][stage]
        mlp = DepthwiseMLP(channels, ratio, shortcut=False, relu=self.arch['linear'])
        return TransformerBlock(channels, self.build_attention(stage), mlp, drop_path)

    def build_token_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        channels, ratio = self.embed_dims[stage], self.arch['mlp_ratios'][stage]
        mlp = TokenDepthwiseMLP(channels, ratio, relu=self.arch['linear'])
        return TokenBlock(channels, self.build_attention(stage), mlp, drop_path, add_score=True)

    def build_attention(self, stage: int) -> nn.Module:
        channels, heads = self.embed_dims[stage], self.arch['num_heads'][stage]
        if self.arch['linear']:
            return PooledReductionAttention(channels, heads, self.qkv_bias)
        sr_ratio = self.arch['sr_ratios'][stage]
        return SpatialReductionAttention(channels, heads, sr_ratio, self.qkv_bias)

    def build_stage(self, stage: int, blocks: list[nn.Module]) -> Stage:
        return Stage(blocks, nn.LayerNorm(self.embed_dims[stage], eps=1e-6))

    def init_parts(self) -> None:
        # Other mergings know best how to start; HAFA's code starts its clustering like all of PVTv2.
        own = [m for m in self.mergings if isinstance(m, ConvMerging | ClusterMerging)]
        init_convs(self.stem, self.stages, *own)
