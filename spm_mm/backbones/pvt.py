"""Pyramid Vision Transformer: "Pyramid Vision Transformer: A Versatile Backbone for Dense
Prediction without Convolutions", https://arxiv.org/abs/2102.12122.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from spm_mm.attention import SpatialReductionAttention
from spm_mm.backbones.hierarchical import HierarchicalBackbone, run_blocks
from spm_mm.errors import UserError
from spm_mm.layers import MLP, PatchStem, PositionEmbedding
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


class PVTStage(nn.Module):
    """Position embedding (if ``grid_size`` is not None), a class token (if asked for), the blocks.

    Shape: map (B, H, W, C) to a map (B, H, W, C) and the class token (B, C) or None.
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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        b, h, w, c = x.shape
        if self.position is not None:
            x = x + self.position(h, w)
        if self.cls_token is None:
            return run_blocks(self.blocks, x, with_cp=self.with_cp), None
        cls_token = (self.cls_token + self.cls_position).expand(b, -1, -1)
        x = torch.cat((cls_token, x.flatten(1, 2)), dim=1)
        x = run_blocks(self.blocks, x, with_cp=self.with_cp)
        return x[:, 1:].reshape(b, h, w, c), x[:, 0]


@MODELS.register_module()
class PVT(HierarchicalBackbone):
    """PVT with any patch merging between its stages.

    Without options it is the network of the official dense-prediction code: no class token and no
    norm on any output. With ``out_type='cls_token'`` it is the official classifier's: a class token
    joins in stage 4 and the last norm is applied to it.

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
        out_type: ``'featmap'``, ``'avg_featmap'`` or ``'cls_token'``; see above.
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
    out_types = (*HierarchicalBackbone.out_types, 'cls_token')
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
        if img_size < self.min_size:
            raise UserError(f'img_size must be at least {self.min_size}, got {img_size}')
        rates = self.drop_path_rates()
        self.stem = PatchStem(self.in_channels, dims[0])
        self.mergings = self.build_mergings(merging, default={'type': 'ConvMerging'})
        self.stages = nn.ModuleList()
        for i in range(self.num_stages):
            blocks = [
                PVTBlock(
                    dims[i],
                    attention[i] and self.build_attention(i, attention[i], qkv_bias),
                    MLP(dims[i], self.arch['mlp_ratios'][i]),
                    rate,
                )
                for rate in rates[i]
            ]
            side = img_size // (4 * 2**i)
            with_token = self.out_type == 'cls_token' and i in self.out_indices
            self.stages.append(PVTStage(dims[i], (side, side), with_token, blocks, self.with_cp))
        self.norms = nn.ModuleList(
            nn.Identity()
            if self.out_type == 'featmap' or i not in self.out_indices
            else nn.LayerNorm(dims[i], eps=1e-6)
            for i in range(self.num_stages)
        )
        self.finish()

    def build_attention(self, i: int, kind: str, qkv_bias: bool) -> SpatialReductionAttention:
        sr_ratio = self.arch['sr_ratios'][i] if kind == 'sr' else 1
        return SpatialReductionAttention(
            self.arch['embed_dims'][i], self.arch['num_heads'][i], sr_ratio, qkv_bias
        )
