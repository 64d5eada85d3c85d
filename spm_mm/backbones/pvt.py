"""Pyramid Vision Transformer: "Pyramid Vision Transformer: A Versatile Backbone for Dense
Prediction without Convolutions", https://arxiv.org/abs/2102.12122.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from spm_mm.attention import SpatialReductionAttention
from spm_mm.backbones.hierarchical import HierarchicalBackbone, run_blocks, run_token_blocks
from spm_mm.errors import UserError, check_count
from spm_mm.layers import MLP, PatchStem, PositionEmbedding, TokenDepthwiseMLP
from spm_mm.ops import TokenMap
from spm_mm.registry import MODELS

__all__ = ['PVT']

ATTENTIONS = ('sr', 'full', None)


class PVTBlock(nn.Module):
    """Pre-norm block: attention (if there is one), then an MLP.

    Shape: map (B, H, W, C), or tokens (B, N, C) where the attention takes them, to the same shape.
    """

    def __init__(
        self,
        channels: int,
        attention: nn.Module | None,
        mlp: nn.Module,
        drop_path: float,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if attention is not None:
            self.norm1 = nn.LayerNorm(channels, eps=norm_eps)
        self.attn = attention
        self.norm2 = nn.LayerNorm(channels, eps=norm_eps)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        if self.attn is not None:
            x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class TokenBlock(PVTBlock):
    """The same block on tokens that have left the grid (HAFA, section 3.3).

    Keys and values of the first block behind the merging come from its context, through the same norm
    as the queries. All others attend to the tokens themselves, as a map where the attention reduces
    one.

    Args:
        add_score: Whether the importance of the context's cells is added to the logits of the keys, as
            in TCFormer's blocks.

    Shape: tokens (B, N, C) and the :class:`~spm_mm.ops.TokenMap` that says where they lie, to
    (B, N, C).
    """

    def __init__(self, *args: Any, add_score: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_score = add_score

    def forward(self, x: Tensor, tokens: TokenMap) -> Tensor:
        if self.attn is not None:
            x = x + self.drop_path(self.attend(self.norm1(x), tokens))
        y = self.norm2(x)
        on_map = isinstance(self.mlp, TokenDepthwiseMLP)
        return x + self.drop_path(self.mlp(tokens.with_tokens(y) if on_map else y))

    def attend(self, x: Tensor, tokens: TokenMap) -> Tensor:
        if tokens.context is not None:
            score = tokens.context_score if self.add_score else None
            return self.attn(x, self.norm1(tokens.context), score)
        return self.attn(x, tokens.with_tokens(x).to_map() if self.attn.reduces else x)


class PVTStage(nn.Module):
    """Position embedding (if ``grid_size`` is not None), a class token (if asked for), the blocks.

    Shape: map (B, H, W, C) to a map (B, H, W, C) and the class token (B, C) or None; tokens likewise.
    """

    def __init__(
        self,
        channels: int,
        grid_size: tuple[int, int] | None,
        cls_token: bool,
        blocks: list[PVTBlock],
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.position = PositionEmbedding(grid_size, channels) if grid_size else None
        self.cls_token = self.cls_position = None
        if cls_token:
            self.cls_token = nn.Parameter(torch.empty(1, 1, channels))
            self.cls_position = nn.Parameter(torch.empty(1, 1, channels))
            for parameter in (self.cls_token, self.cls_position):
                nn.init.trunc_normal_(parameter, std=0.02)
        self.blocks = nn.ModuleList(blocks)
        self.with_cp = with_cp

    def forward(self, x: Tensor | TokenMap) -> tuple[Tensor | TokenMap, Tensor | None]:
        if isinstance(x, TokenMap):
            return self.run_on_tokens(x)
        b, h, w, c = x.shape
        if self.position is not None:
            x = x + self.position(h, w)
        if self.cls_token is None:
            return run_blocks(self.blocks, x, with_cp=self.with_cp), None
        x = self.join_cls_token(x.flatten(1, 2))
        x = run_blocks(self.blocks, x, with_cp=self.with_cp)
        return x[:, 1:].reshape(b, h, w, c), x[:, 0]

    def run_on_tokens(self, tokens: TokenMap) -> tuple[TokenMap, Tensor | None]:
        x = tokens.x if self.cls_token is None else self.join_cls_token(tokens.x)
        x = run_token_blocks(self.blocks, tokens, x, with_cp=self.with_cp)
        if self.cls_token is None:
            return tokens.with_tokens(x), None
        return tokens.with_tokens(x[:, 1:]), x[:, 0]

    def join_cls_token(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) behind the class token, (B, 1 + N, C)."""
        cls_token = (self.cls_token + self.cls_position).expand(len(x), -1, -1)
        return torch.cat((cls_token, x), dim=1)


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
    takes_tokens = True
    out_types = (*HierarchicalBackbone.out_types, 'cls_token', 'tokens')
    unused_keys = ('norms.', 'stages.3.cls_')

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        merging: dict | Sequence[dict] | None = None,
        attention: Sequence[str | None] = ('sr', 'sr', 'sr', 'sr'),
        qkv_bias: bool = True,
        img_size: int = 224,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        dims = self.arch['embed_dims']
        if len(attention) != len(dims) or any(kind not in ATTENTIONS for kind in attention):
            raise UserError(
                f"attention must have one of 'sr', 'full' and None for each of {len(dims)} stages,"
                f' got {list(attention)}'
            )
        if self.out_type == 'cls_token' and attention[-1] is None:
            raise UserError(
                f"out_type='cls_token' needs an attention in the last stage, or the class token sees"
                f' no image, got attention={list(attention)}: take another out_type, or an attention'
            )
        check_count('img_size', img_size, self.min_size)
        rates = self.drop_path_rates()
        self.stem = PatchStem(self.in_channels, dims[0])
        self.mergings = self.build_mergings(merging, default={'type': 'ConvMerging'})
        self.stages = nn.ModuleList()
        for i in range(self.num_stages):
            if attention[i] is None and self.on_tokens(i) and self.mergings[i - 1].makes_context:
                raise UserError(
                    f'attention[{i}] is None, so nothing reads the keys and values that merging'
                    f"[{i - 1}] makes: set context='clusters' there, or an attention"
                )
            block = TokenBlock if self.on_tokens(i) else PVTBlock
            blocks = [
                block(
                    dims[i],
                    attention[i] and self.build_attention(i, attention[i], qkv_bias),
                    MLP(dims[i], self.arch['mlp_ratios'][i]),
                    rate,
                )
                for rate in rates[i]
            ]
            # HAFA has no position table for tokens that have left the grid.
            grid = None if self.on_tokens(i) else (img_size // (4 * 2**i),) * 2
            with_token = self.out_type == 'cls_token' and i in self.out_indices
            self.stages.append(PVTStage(dims[i], grid, with_token, blocks, self.with_cp))
        self.norms = nn.ModuleList(
            nn.LayerNorm(dims[i], eps=1e-6) if self.is_normed(i) else nn.Identity()
            for i in range(self.num_stages)
        )
        self.finish()

    def is_normed(self, i: int) -> bool:
        """Whether what leaves stage ``i`` is normed: vectors are, and tokens, as HAFA's."""
        dense = self.out_type in self.dense_types
        return i in self.out_indices and (not dense or self.on_tokens(i))

    def build_attention(self, i: int, kind: str, qkv_bias: bool) -> SpatialReductionAttention:
        sr_ratio = self.arch['sr_ratios'][i] if kind == 'sr' else 1
        return SpatialReductionAttention(
            self.arch['embed_dims'][i], self.arch['num_heads'][i], sr_ratio, qkv_bias
        )
