"""Pyramid Vision Transformer: "Pyramid Vision Transformer: A Versatile Backbone for Dense
Prediction without Convolutions", https://arxiv.org/abs/2102.12122.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spm_mm.attention import SpatialReductionAttention
from spm_mm.backbones.hierarchical import HierarchicalBackbone
from spm_mm.backbones.stage import Stage
from spm_mm.errors import UserError, check_count
from spm_mm.layers import MLP, PatchStem, PositionEmbedding, TokenBlock, TransformerBlock
from spm_mm.ops import TokenMap
from spm_mm.registry import MODELS

__all__ = ['PVT']

ATTENTIONS = ('sr', 'full', None)


class ClassTokenStage(Stage):
    """A stage whose blocks see a learned class token beside the tokens of the feature map.

    Args:
        channels: Width C of a token.
        blocks: As in :class:`~spm_mm.backbones.stage.Stage`.
        position: Likewise.

    Shape: feature map (B, H, W, C) to a feature map (B, H, W, C) and the class token (B, C); tokens
    likewise.
    """

    def __init__(
        self, channels: int, blocks: list[nn.Module], position: PositionEmbedding | None = None
    ) -> None:
        super().__init__(blocks, position=position)
        self.cls_token = nn.Parameter(torch.empty(1, 1, channels))
        self.cls_position = nn.Parameter(torch.empty(1, 1, channels))
        for parameter in (self.cls_token, self.cls_position):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: Tensor | TokenMap) -> tuple[Tensor | TokenMap, Tensor]:
        x = self.embed(x)
        on_grid = isinstance(x, Tensor)
        tokens = x.flatten(1, 2) if on_grid else x.x
        cls_token = (self.cls_token + self.cls_position).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat((cls_token, tokens), dim=1)
        tokens = tokens if on_grid else replace(x, x=tokens)
        for block in self.blocks:
            tokens = self.run(block, tokens)
        tokens = tokens if on_grid else tokens.x
        cls_token, tokens = tokens[:, 0], tokens[:, 1:]
        return (tokens.reshape(x.shape) if on_grid else x.with_tokens(tokens)), cls_token


@MODELS.register_module()
class PVT(HierarchicalBackbone):
    """PVT with any patch merging between its stages.

    Without options it is the network of the official dense-prediction code: no class token and no
    norm on any output. With ``out_type='cls_token'`` it is the official classifier's: a class token
    joins in stage 4 and the last norm is applied to it.

    Behind a :class:`~spm_mm.merging.ClusterMerging` a stage runs on tokens (HAFA, section 3.3): without
    a position table, the first block with the merging's context as keys and values, and what leaves the
    stage is normed, as in the official code. Its classifier takes ``out_type='avg_featmap'``, the plain
    mean of the tokens; for dense tasks ``'featmap'`` gives their map, and ``'tokens'`` the tokens for
    the neck :class:`~spm_mm.necks.MTA`.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'medium'``, ``'large'`` or a dict with the keys of
            :attr:`arch_settings`.
        merging: One config for the three transitions or a list of three. Default: PVT's own 2x2
            convolution, ``dict(type='ConvMerging')``.
        attention: For each stage ``'sr'`` (spatial reduction), ``'full'`` or None (MLP alone, as in
            LIT, Table 5).
        qkv_bias: Whether query, key and value projections have a bias.
        img_size: Side of the image in pixels that the position tables are made for. They are resized
            to any other size.
        out_type: ``'featmap'``, ``'avg_featmap'``, ``'cls_token'`` or ``'tokens'``; see above.
        kwargs: Options of :class:`~spm_mm.backbones.hierarchical.HierarchicalBackbone`.

    Shape: image (B, 3, H, W), H and W at least 32, to maps of 64, 128, 320 and 512 channels (for the
    named architectures) at strides 4, 8, 16 and 32, or to one vector (B, 512).
    """

    arch_settings = {
        name: {
            'embed_dims': (64, 128, 320, 512),
            'depths': depths,
            'num_heads': (1, 2, 5, 8),
            'mlp_ratios': (8, 8, 4, 4),
            'sr_ratios': (8, 4, 2, 1),
        }
        for name, depths in {
            'tiny': (2, 2, 2, 2),
            'small': (3, 4, 6, 3),
            'medium': (3, 4, 18, 3),
            'large': (3, 8, 27, 3),
        }.items()
    }
    default_merging = {'type': 'ConvMerging'}
    takes_tokens = True
    out_types = (*HierarchicalBackbone.out_types, 'cls_token', 'tokens')
    unused_keys = ('norms.*', 'stages.*.cls_*')

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        merging: dict | Sequence[dict] | None = None,
        attention: str | Sequence[str | None] = 'sr',
        qkv_bias: bool = True,
        img_size: int = 224,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        stages = len(self.depths)
        attention = (attention,) * stages if isinstance(attention, str) else tuple(attention)
        if len(attention) != stages or any(kind not in ATTENTIONS for kind in attention):
            raise UserError(
                f"attention must have one of 'sr', 'full' and None for each of {stages} stages,"
                f' got {list(attention)}'
            )
        if self.out_type == 'cls_token' and attention[-1] is None:
            raise UserError(
                f"out_type='cls_token' needs an attention in the last stage, or the class token sees"
                f' no image, got attention={list(attention)}: take another out_type, or an attention'
            )
        check_count('img_size', img_size, self.min_size)
        self.attention = attention
        self.qkv_bias = qkv_bias
        self.img_size = img_size
        self.build(merging)

    def build_stem(self) -> nn.Module:
        return PatchStem(self.in_channels, self.embed_dims[0])

    def build_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        return TransformerBlock(*self.parts(stage), drop_path)

    def build_token_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        if self.attention[stage] is None and self.mergings[stage - 1].makes_context:
            raise UserError(
                f'attention[{stage}] is None, so nothing reads the keys and values that merging'
                f"[{stage - 1}] makes: set context='clusters' there, or an attention"
            )
        return TokenBlock(*self.parts(stage), drop_path)

    def parts(self, stage: int) -> tuple[int, nn.Module | None, nn.Module]:
        """Width, attention and MLP of a block."""
        channels, kind = self.embed_dims[stage], self.attention[stage]
        attention = None
        if kind is not None:
            heads = self.arch['num_heads'][stage]
            sr_ratio = self.arch['sr_ratios'][stage] if kind == 'sr' else 1
            attention = SpatialReductionAttention(channels, heads, sr_ratio, self.qkv_bias)
        return channels, attention, MLP(channels, self.arch['mlp_ratios'][stage])

    def build_stage(self, stage: int, blocks: list[nn.Module]) -> Stage:
        channels, side, position = self.embed_dims[stage], self.img_size // (4 * 2**stage), None
        if not self.on_tokens(stage):  # HAFA has no positions for tokens that have left the grid
            position = PositionEmbedding((side, side), channels)
        if self.out_type == 'cls_token' and stage in self.out_indices:
            return ClassTokenStage(channels, blocks, position)
        return Stage(blocks, position=position)

    def build_norm(self, stage: int) -> nn.Module:
        # Vectors are normed, and tokens, as HAFA's; feature maps are not.
        if stage in self.out_indices and (not self.is_dense or self.on_tokens(stage)):
            return nn.LayerNorm(self.embed_dims[stage], eps=1e-6)
        return nn.Identity()
