import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.errors import UserError, check_count, check_heads
from spm_mm.layers import conv_on_map, init_linears
from spm_mm.ops import is_open


class SpatialReductionAttention(nn.Module):
    """Multi-head attention whose keys and values come from a reduced map (PVT, section 3.3).

    With ``sr_ratio=1`` it is plain multi-head attention and takes a map or any tokens, a class token
    among them. With a larger ratio a convolution of kernel and stride ``sr_ratio`` and a LayerNorm
    reduce the map first; rows and columns that do not fill a window are left out, as in the official
    code.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G; must divide ``channels``.
        sr_ratio: Factor by which both sides of the map shrink for keys and values.
        qkv_bias: Whether query, key and value projections have a bias.

    Shape: map (B, H, W, C), or tokens (B, N, C) if ``sr_ratio`` is 1, to the same shape.

    Raises:
        ValueError: If ``num_heads`` does not divide ``channels``, or a map has a side shorter than
            ``sr_ratio``.
    """

    def __init__(
        self, channels: int, num_heads: int, sr_ratio: int = 1, qkv_bias: bool = True
    ) -> None:
        super().__init__()
        check_heads(channels, num_heads)
        check_count('sr_ratio', sr_ratio)
        self.num_heads = num_heads
        self.sr_ratio = sr_ratio
        self.q = nn.Linear(channels, channels, bias=qkv_bias)
        self.kv = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        init_linears(self)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(channels, channels, sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(channels)

    def forward(
        self, x: Tensor, context: Tensor | None = None, score: Tensor | None = None
    ) -> Tensor:
        """Attention within ``x``, or from ``x`` to another ``context``.

        Args:
            x: Map (B, H, W, C) or tokens (B, N, C).
            context: What keys and values are made of, a map (B, h, w, C), or tokens if ``sr_ratio`` is
                1; default ``x``.
            score: Importance (B, h, w) of the cells of ``context``, averaged where it is reduced and
                added to the logits of the keys, as TCFormer does.
        """
        context = x if context is None else context
        if score is not None:
            score = self.reduce_score(score).flatten(1)[:, None, None]
        return self.proj(self.attend(x, self.reduce(context), score))

    @property
    def reduces(self) -> bool:
        """Whether keys and values are made of a map alone."""
        return self.sr_ratio > 1

    def reduce(self, x: Tensor) -> Tensor:
        """What keys and values are made of, (B, ..., C)."""
        if self.sr_ratio == 1:
            return x
        if any(side < self.sr_ratio for side in x.shape[1:3]):
            raise UserError(
                f'sr_ratio={self.sr_ratio} needs a map of at least {self.sr_ratio} rows and'
                f' columns, got {x.shape[1]} x {x.shape[2]}: use a larger image or a smaller ratio'
            )
        return self.norm(conv_on_map(self.sr, x))

    def reduce_score(self, score: Tensor) -> Tensor:
        """Mean score of the cells (B, h, w) that become one key."""
        return F.avg_pool2d(score, self.sr_ratio) if self.sr_ratio > 1 else score

    def attend(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attention from ``x`` to ``context``, before the output projection, in the shape of ``x``.

        ``bias`` is added to the logits, which it must be broadcastable to, (B, G, N, M).
        """
        b, c = x.shape[0], x.shape[-1]
        head = (self.num_heads, c // self.num_heads)
        q = self.q(x).view(b, -1, *head).transpose(1, 2)
        k, v = self.kv(context).view(b, -1, 2, *head).unbind(2)
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        out = (
            self.weigh(q, k, v, *x.shape[1:-1])
            if bias is None
            else self.weigh_biased(q, k, v, bias)
        )
        return out.transpose(1, 2).reshape(x.shape)

    def weigh(self, q: Tensor, k: Tensor, v: Tensor, *grid: int) -> Tensor:
        """What (B, G, N, D) queries read, whose tokens are a map of the sides ``grid``."""
        return F.scaled_dot_product_attention(q, k, v)

    def weigh_biased(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """What they read with a ``bias`` added to the logits, of tokens on a map or not."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))


class GridPool(nn.AdaptiveAvgPool2d):
    """``nn.AdaptiveAvgPool2d`` to a square grid, also in a graph of all sizes."""

    def forward(self, x: Tensor) -> Tensor:
        if not is_open(*x.shape[2:]):
            return super().forward(x)
        rows, columns = (self.shares(side, x) for side in x.shape[2:])
        return rows @ x @ columns.T

    def shares(self, side: int, x: Tensor) -> Tensor:
        """How much each of ``side`` cells counts in each cell of the grid, (grid, side)."""
        grid = self.output_size
        start, cells = (torch.arange(n, device=x.device) for n in (grid, side))
        stop = ((start + 1) * side + grid - 1) // grid
        start = start * side // grid
        inside = (cells >= start[:, None]) & (cells < stop[:, None])
        return inside.to(x.dtype) / (stop - start)[:, None].to(x.dtype)


class PooledReductionAttention(SpatialReductionAttention):
    """Multi-head attention whose keys and values come from the map pooled to a fixed grid.

    The linear spatial reduction attention of PVTv2 (section 3.2): its cost grows with the tokens, not
    with their square. Average pooling, a 1x1 convolution, a LayerNorm and a GELU reduce the map. A map
    smaller than the grid is pooled to overlapping windows.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G; must divide ``channels``.
        qkv_bias: Whether query, key and value projections have a bias.
        grid_size: Rows and columns of the pooled map.

    Shape: map (B, H, W, C) to the same shape.

    Raises:
        ValueError: If ``num_heads`` does not divide ``channels``.
    """

    def __init__(
        self, channels: int, num_heads: int, qkv_bias: bool = True, grid_size: int = 7
    ) -> None:
        super().__init__(channels, num_heads, qkv_bias=qkv_bias)
        self.pool = GridPool(grid_size)
        self.sr = nn.Conv2d(channels, channels, 1)
        self.norm = nn.LayerNorm(channels)
        self.act = nn.GELU()

    @property
    def reduces(self) -> bool:
        return True

    def reduce(self, x: Tensor) -> Tensor:
        pooled = conv_on_map(lambda t: self.sr(self.pool(t)), x)
        return self.act(self.norm(pooled))

    def reduce_score(self, score: Tensor) -> Tensor:
        return self.pool(score)
