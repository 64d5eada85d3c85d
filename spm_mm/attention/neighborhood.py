"""Neighborhood attention: "Neighborhood Attention Transformer" (NAT), section 3.1,
https://arxiv.org/abs/2204.07143.
"""

import torch
from torch import Tensor, nn

from spm_mm.errors import check_count, check_heads
from spm_mm.layers import init_linears
from spm_mm.ops import append_zeros, is_open, neighborhood_attention


class NeighborhoodAttention(nn.Module):
    """Multi-head attention of every cell to the nearest K x K cells, with a bias for each shift.

    Near a border the window is shifted inside the map, so that every cell reads K x K others. The bias
    table belongs to shifts, not to places: it is the same at every size of map and never resized.

    A side of the map shorter than K is filled up with zeros on the right or bottom before the
    projections, and cut afterwards, as NATTEN 0.14 does, which the official code was written for. The
    filling takes part in the attention: there keys and values are the projections' biases.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G; must divide ``channels``.
        kernel_size: K, odd, 3 or more.
        qkv_bias: Whether query, key and value projections have a bias.

    Shape: map (B, H, W, C) to the same shape.

    Raises:
        ValueError: If ``num_heads`` does not divide ``channels`` or ``kernel_size`` does not fit.
    """

    def __init__(
        self, channels: int, num_heads: int, kernel_size: int = 7, qkv_bias: bool = True
    ) -> None:
        super().__init__()
        check_heads(channels, num_heads)
        check_count('kernel_size', kernel_size, 3, odd=True)
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        # The field's name: configs leave it out of weight decay by it.
        self.relative_position_bias_table = nn.Parameter(
            torch.empty(num_heads, 2 * kernel_size - 1, 2 * kernel_size - 1)
        )
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.proj = nn.Linear(channels, channels)
        init_linears(self)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[1:3]
        bottom, right = (
            (torch.sym_max if is_open(side) else max)(0, self.kernel_size - side) for side in (h, w)
        )
        x = append_zeros(x, bottom, right)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)
        return self.proj(self.weigh(q, k, v).flatten(3)[:, :h, :w])

    def weigh(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What (B, H, W, G, D) queries read in their neighborhoods."""
        return neighborhood_attention(q, k, v, self.relative_position_bias_table)
