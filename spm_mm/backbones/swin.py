"""Swin Transformer: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
https://arxiv.org/abs/2103.14030.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from spm_mm.attention import SpatialReductionAttention, WindowAttention
from spm_mm.backbones.hierarchical import HierarchicalBackbone
from spm_mm.layers import MLP, PatchStem, TokenBlock, TransformerBlock
from spm_mm.registry import MODELS

__all__ = ['SwinTransformer']


@MODELS.register_module()
class SwinTransformer(HierarchicalBackbone):
    """Swin Transformer with any patch merging between its stages.

    Each output map has a LayerNorm of its own, which the next stage does not see. That of stage 4 is
    also the classifier's, so that a checkpoint of a classifier fills it, as in MMPretrain;
    MMDetection starts it anew. A classifier takes ``out_type='avg_featmap'``.

    Behind a :class:`~spm_mm.merging.ClusterMerging` there are no windows and no relative positions:
    every token attends to all (HAFA prints a Swin-T with it, but released no code, so this is ours).

    **Small maps.** The same weights give two networks: the official classifiers do not shift windows
    where a map fits into one (stage 4 at 224 pixels), the detection and segmentation code does.
    ``shift_small_maps`` chooses.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, ``'large'`` or a dict with the keys of
            :attr:`arch_settings`.
        merging: One config for the three transitions or a list of three. Default:
            ``dict(type='SwinMerging')``.
        window_size: Rows and columns of a window, in tokens. A checkpoint with another one loads, its
            tables of biases are resized.
        qkv_bias: Whether query, key and value projections have a bias.
        shift_small_maps: Whether windows are shifted where the map's smaller side is at most
            ``window_size``. Default: as the official code, for maps, not for vectors.
        kwargs: Options of :class:`~spm_mm.backbones.hierarchical.HierarchicalBackbone`.

    Shape: image (B, 3, H, W), H and W at least 32, to maps of 96, 192, 384 and 768 channels (base: from
    128 on, large: from 192 on) at strides 4, 8, 16 and 32, or to one vector (B, C). Sides are rounded
    up: an image is filled up with zeros on the right and bottom to multiples of 4.
    """

    arch_settings = {
        name: {
            'embed_dims': tuple(width * 2**i for i in range(4)),
            'depths': (2, 2, depth, 2),
            'num_heads': tuple(width // 32 * 2**i for i in range(4)),
            'mlp_ratios': (4, 4, 4, 4),
        }
        for name, width, depth in (
            ('tiny', 96, 6),
            ('small', 96, 18),
            ('base', 128, 18),
            ('large', 192, 18),
        )
    }
    default_merging = {'type': 'SwinMerging'}
    takes_tokens = True
    out_types = (*HierarchicalBackbone.out_types, 'tokens')

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        merging: dict | Sequence[dict] | None = None,
        window_size: int = 7,
        qkv_bias: bool = True,
        shift_small_maps: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        self.window_size = window_size
        self.qkv_bias = qkv_bias
        self.shift_small_maps = self.is_dense if shift_small_maps is None else shift_small_maps
        self.build(merging)

    def build_stem(self) -> nn.Module:
        return PatchStem(self.in_channels, self.embed_dims[0], rounds_up=True)

    def build_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        channels, heads = self.embed_dims[stage], self.arch['num_heads'][stage]
        attention = WindowAttention(
            channels,
            heads,
            self.window_size,
            shift=self.window_size // 2 if index % 2 else 0,
            qkv_bias=self.qkv_bias,
            shift_small_maps=self.shift_small_maps,
        )
        mlp = MLP(channels, self.arch['mlp_ratios'][stage])
        return TransformerBlock(channels, attention, mlp, drop_path, norm_eps=1e-5)

    def build_token_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        channels, heads = self.embed_dims[stage], self.arch['num_heads'][stage]
        attention = SpatialReductionAttention(channels, heads, qkv_bias=self.qkv_bias)
        mlp = MLP(channels, self.arch['mlp_ratios'][stage])
        return TokenBlock(channels, attention, mlp, drop_path, norm_eps=1e-5)

    def build_norm(self, stage: int) -> nn.Module:
        return nn.LayerNorm(self.embed_dims[stage]) if stage in self.out_indices else nn.Identity()
