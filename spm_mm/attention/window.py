import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.errors import UserError, check_count, check_heads
from spm_mm.layers import PositionEmbedding, init_linears
from spm_mm.ops import from_windows, is_open, pad_to_multiple, relative_bias, to_windows


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, which may be shifted, with a bias for each shift of tokens.

    "Swin Transformer", https://arxiv.org/abs/2103.14030, section 3.2 and Eq. 4. A map whose sides the
    window does not divide is filled up with zeros on the right and bottom, then shifted cyclically.
    As in the official dense code and the frameworks' classes, padding is attended to: it has the keys
    and values of a zero token. Tokens that only the cyclic shift brings together do not see each other.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G; must divide ``channels``.
        window_size: Rows and columns of a window.
        shift: Rows and columns by which the windows are shifted, from 0 to below ``window_size``.
        qkv_bias: Whether query, key and value projections have a bias.
        shift_small_maps: Whether windows are also shifted where the map's smaller side is at most
            ``window_size``. The official classifiers do not, the dense code does.

    Shape: map (B, H, W, C) to the same shape.

    Raises:
        ValueError: If an argument does not fit; the message says what does.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        window_size: int = 7,
        shift: int = 0,
        qkv_bias: bool = True,
        shift_small_maps: bool = True,
    ) -> None:
        super().__init__()
        check_heads(channels, num_heads)
        check_count('window_size', window_size)
        check_count('shift', shift, 0)
        if shift >= window_size:
            raise UserError(
                f'shift must be below window_size, got shift={shift}, window_size={window_size}'
            )
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift = shift
        self.shift_small_maps = shift_small_maps
        side = 2 * window_size - 1
        # The field's name: configs leave it out of weight decay by it.
        self.relative_position_bias_table = PositionEmbedding((side, side), num_heads, 'bicubic')
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        init_linears(self)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        size = self.window_size
        shift = self.shift
        if shift and not self.shift_small_maps:
            if is_open(h, w):
                # 1 where both sides are longer than a window, else 0, without a branch.
                shift *= torch.sym_max(0, torch.sym_min(1, torch.sym_min(h, w) - size))
            elif min(h, w) <= size:
                shift = 0
        x = pad_to_multiple(x, size)
        height, width = x.shape[1:3]
        shifts = is_open(shift) or shift != 0
        if shifts:
            x = roll(x, shift)
        windows = to_windows(x, size)
        n, tokens = windows.shape[1:3]
        qkv = self.qkv(windows).view(b, n, tokens, 3, self.num_heads, c // self.num_heads)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # (B, windows, G, T, D)
        mask = split_regions(height, width, size, shift, x.device) if shifts else None
        out = self.weigh(q, k, v, mask).transpose(2, 3).reshape(b, n, tokens, c)
        x = from_windows(self.proj(out), size, height, width)
        if shifts:
            x = roll(x, -shift)
        return x[:, :h, :w]

    def weigh(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """What (B, windows, G, T, D) queries read in their windows.

        ``mask`` (windows, T, T) is True for pairs that must not see each other.
        """
        shape = q.shape
        side = 2 * self.window_size - 1
        table = self.relative_position_bias_table(side, side)[0].permute(2, 0, 1)
        bias = relative_bias(table.to(q.dtype))
        # Fused attention takes two dimensions beside tokens and channels: windows go to the heads
        # where each of them has its own mask, which all images share, and to the images elsewhere.
        if mask is None:
            q, k, v = (t.flatten(0, 1) for t in (q, k, v))
        else:
            bias = bias.masked_fill(mask[:, None], float('-inf')).flatten(0, 1)
            q, k, v = (t.flatten(1, 2) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None]).view(shape)


def roll(x: Tensor, shift: int) -> Tensor:
    """Move a map (B, H, W, C) up and left by ``shift`` cells, cyclically."""
    if not is_open(shift, *x.shape):
        return x.roll((-shift, -shift), dims=(1, 2))
    for dim in (1, 2):
        side = x.shape[dim]
        index = torch.arange(side, device=x.device) + shift
        # Not `%`: ONNX has no remainder by a size.
        index = torch.where(index < 0, index + side, index)
        x = x.index_select(dim, torch.where(index < side, index, index - side))
    return x


def split_regions(
    height: int, width: int, size: int, shift: int, device: torch.device | None = None
) -> Tensor:
    """Which tokens of a window of a cyclically shifted map must not see each other.

    Args:
        height: Rows of the map, a multiple of ``size``.
        width: Columns of the map, likewise.
        size: Rows and columns of a window.
        shift: Rows and columns by which the map was moved up and left.
        device: Device of the result.

    Returns:
        (windows, T, T), True for pairs that come from opposite borders of the map.
    """
    rows, columns = (
        (torch.arange(side, device=device) >= side - shift).int() for side in (height, width)
    )
    regions = 2 * rows[:, None] + columns
    regions = to_windows(regions[None, :, :, None], size)[0, ..., 0]
    return regions[:, :, None] != regions[:, None]
