"""Shunted self-attention: "Shunted Self-Attention via Multi-Scale Token Aggregation", section 3.2,
https://arxiv.org/abs/2111.15193.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.attention.spatial_reduction import SpatialReductionAttention
from spm_mm.errors import UserError, check_count, check_heads
from spm_mm.layers import conv_on_map, init_linears


class LocalValueAttention(SpatialReductionAttention):
    """Plain multi-head attention plus a depth-wise 3x3 convolution of the values: Shunted's last stage.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G; must divide ``channels``.
        qkv_bias: Whether query, key and value projections have a bias.

    Shape: map (B, H, W, C) to the same shape.

    Raises:
        ValueError: If ``num_heads`` does not divide ``channels``.
    """

    def __init__(self, channels: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__(channels, num_heads, qkv_bias=qkv_bias)
        self.local = depthwise(channels)

    def weigh(self, q: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> Tensor:
        return super().weigh(q, k, v, height, width) + self.enhance(v, height, width)

    def enhance(self, v: Tensor, height: int, width: int) -> Tensor:
        """The convolution of values (B, G, N, D) of a map."""
        v = v.transpose(1, 2)
        values = v.reshape(v.shape[0], height, width, -1)
        return conv_on_map(self.local, values).reshape(v.shape).transpose(1, 2)


class ShuntedBranch(nn.Module):
    """Keys and values of one scale: the map merged by a strided convolution, for one group of heads.

    The values have a depth-wise 3x3 convolution of themselves added.

    Shape: map (B, H, W, C) to keys and values (B, G, M, D) with G D = ``out_channels`` and
    M = floor(H / ratio) floor(W / ratio).
    """

    def __init__(
        self, channels: int, out_channels: int, num_heads: int, ratio: int, qkv_bias: bool
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.merge = nn.Conv2d(channels, channels, ratio, stride=ratio)
        self.norm = nn.LayerNorm(channels)
        self.act = nn.GELU()
        self.kv = nn.Linear(channels, 2 * out_channels, bias=qkv_bias)
        self.local = depthwise(out_channels)
        init_linears(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        context = self.act(self.norm(conv_on_map(self.merge, x)))
        k, v = self.kv(context).chunk(2, dim=-1)
        v = v + conv_on_map(self.local, v)
        return self._heads(k), self._heads(v)

    def _heads(self, x: Tensor) -> Tensor:
        return x.flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class ShuntedAttention(nn.Module):
    """Multi-head attention whose heads read the map at two scales.

    Half of the heads read it merged by ``sr_ratio``, the others by ``sr_ratio / 2``. Rows and columns
    that do not fill a merging patch are left out of that scale's keys and values, as in the official
    code; they still ask.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G, even; must divide ``channels``.
        sr_ratio: Factor by which both sides shrink for the coarse half of the heads, even.
        qkv_bias: Whether query, key and value projections have a bias.

    Shape: map (B, H, W, C) to the same shape.

    Raises:
        ValueError: If an argument does not fit, or a map has a side shorter than ``sr_ratio``.
    """

    def __init__(self, channels: int, num_heads: int, sr_ratio: int, qkv_bias: bool = True) -> None:
        super().__init__()
        check_heads(channels, num_heads)
        check_count('sr_ratio', sr_ratio, 2)
        for name, value in (('num_heads', num_heads), ('sr_ratio', sr_ratio)):
            if value % 2:
                raise UserError(f'{name} must be even, got {value}')
        self.num_heads = num_heads
        self.sr_ratio = sr_ratio
        self.q = nn.Linear(channels, channels, bias=qkv_bias)
        self.branches = nn.ModuleList(
            ShuntedBranch(channels, channels // 2, num_heads // 2, ratio, qkv_bias)
            for ratio in (sr_ratio, sr_ratio // 2)
        )
        self.proj = nn.Linear(channels, channels)
        init_linears(self.q, self.proj)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[1:3]) < self.sr_ratio:
            raise UserError(
                f'sr_ratio={self.sr_ratio} needs a map of at least {self.sr_ratio} rows and columns,'
                f' got {x.shape[1]} x {x.shape[2]}: use a larger image or a smaller ratio'
            )
        q = self.q(x).flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        outs = [
            self.weigh(queries, *branch(x)).transpose(1, 2)
            for queries, branch in zip(q.chunk(2, dim=1), self.branches, strict=True)
        ]
        return self.proj(torch.cat(outs, dim=2).reshape(x.shape))

    def weigh(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What (B, G, N, D) queries read of one scale."""
        return F.scaled_dot_product_attention(q, k, v)


def depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
