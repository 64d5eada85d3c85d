"""Attention of every cell of a feature map to the K x K cells around it (NAT), with relative biases.

Along an axis of L cells, cell i reads the K cells from clamp(i - K // 2, 0, L - K) on: near a border
the window is shifted inside, never cut. The bias of the shift from query to key needs 2 K - 1 numbers
an axis, the outer ones for cells near a border.

Gathering K x K keys for every query copies the feature map 49 times for K = 7 and is bound by memory.
Here the queries go in square tiles instead: the K x K queries of a tile read (2 K - 1) x (2 K - 1) keys
between them, and their attention is one dense product in which a mask leaves out what lies too far.
That is 3.4 times the multiply-accumulates for K = 7, without the copies. A feature map of at most two
tiles a side is one tile: there this is one product over the whole feature map.
``tools/analysis_tools/benchmark.py --neighborhood`` measures it beside both other routes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from spm_mm.errors import UserError
from spm_mm.ops.windows import append_zeros, divide_up, is_open, overhang

STRIP = 2**24
"""Pairs of queries and keys of an image at a time, in all heads: 64 MB in float32. One row of tiles may
have more."""


def neighborhood_attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """Multi-head neighborhood attention with a relative position bias.

    A large feature map goes in strips of whole rows of tiles, each recomputed in the backward pass, so
    that the weights of one strip are all that exists at a time.

    Args:
        q: Queries (B, H, W, G, D), H and W at least K.
        k: Keys, likewise.
        v: Values, likewise.
        table: Bias of each shift, key minus query, (G, 2 K - 1, 2 K - 1); no shift is in the middle.

    Returns:
        (B, H, W, G, D).

    Raises:
        ValueError: If ``table`` is not of an odd K, or the feature map is smaller than K.
    """
    sides = table.shape[1:]
    if sides[0] != sides[1] or sides[0] % 4 != 1:
        raise UserError(
            f'table must be (G, 2 K - 1, 2 K - 1) with an odd K, got {tuple(table.shape)}'
        )
    height, width, heads = q.shape[1:4]
    kernel = (sides[0] + 1) // 2
    if height < kernel or width < kernel:
        raise UserError(
            f'a feature map must have {kernel} rows and columns, got {tuple(q.shape[1:3])}'
        )
    rows, columns = (Tiles.of(side, kernel, q.device) for side in (height, width))
    if is_open(height, width):
        return _attend(q, k, v, table, rows, columns)
    pairs = heads * rows.shift[0].numel() * columns.shift.numel()  # of one row of tiles
    if pairs * rows.count <= STRIP:
        return _attend(q, k, v, table, rows, columns)
    step = max(1, STRIP // pairs)
    outs = []
    for i in range(0, rows.count, step):
        strip = q[:, i * rows.size : (i + step) * rows.size]
        arguments = (strip, k, v, table, rows[i : i + step], columns)
        outs.append(checkpoint(_attend, *arguments, use_reentrant=False))
    return torch.cat(outs, dim=1)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, rows: 'Tiles', columns: 'Tiles'
) -> Tensor:
    queries = _to_tiles(q, rows, columns)
    keys, values = (_gather(x, rows, columns) for x in (k, v))
    bias = _bias(table, rows, columns).to(q.dtype)
    # A mask of four dimensions, or PyTorch's fused kernels do not take it.
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias[None])
    return _from_tiles(out, rows, columns, q)


@dataclass(frozen=True)
class Tiles:
    """One axis cut into tiles of equally many queries, with the keys that each tile reads."""

    key: Tensor
    """Cells that a tile reads, (tiles, keys)."""
    shift: Tensor
    """From query to key, counted from 0 for the one farthest back, (tiles, queries, keys)."""
    near: Tensor
    """Whether the query reads the key, (tiles, queries, keys)."""

    @classmethod
    def of(cls, length: int, kernel: int, device: torch.device) -> 'Tiles':
        if is_open(length):
            count, size, keys = divide_up(length, kernel), kernel, 2 * kernel - 1
        else:
            # An axis of up to two tiles stays whole: fewer, larger products.
            count = 1 if length <= 2 * kernel else divide_up(length, kernel)
            size = divide_up(length, count)
            keys = min(length, size + kernel - 1)
        query = torch.arange(count * size, device=device).view(count, size)
        first = (query - kernel // 2).clamp(0, length - kernel)
        start = first[:, :1] if is_open(length) else first[:, :1].clamp(max=length - keys)
        key = start + torch.arange(keys, device=device)
        behind = key[:, None] - first[..., None]
        shift = key[:, None] - query[..., None] + kernel - 1
        # Where the side is open a tile may reach beyond the axis, to keys that no query reads.
        return cls(key.clamp(max=length - 1), shift, (behind >= 0) & (behind < kernel))

    def __getitem__(self, part: slice) -> 'Tiles':
        return Tiles(self.key[part], self.shift[part], self.near[part])

    @property
    def count(self) -> int:
        return self.shift.shape[0]

    @property
    def size(self) -> int:
        """Queries of a tile; the last tile may overhang the axis."""
        return self.shift.shape[1]

    def covers(self, length: int) -> bool:
        """Whether there is one tile, which reads all of an axis of this length."""
        return not is_open(length) and self.key.shape == (1, length)

    def selector(self, table: Tensor) -> Tensor:
        """One row for each pair of query and key, 1 at their shift; all 0 where there is no such."""
        shifts = torch.arange(table.shape[1], device=table.device)
        return (self.shift.flatten()[:, None] == shifts).to(table.dtype)


def _to_tiles(x: Tensor, rows: Tiles, columns: Tiles) -> Tensor:
    """A strip (B, H, W, G, D) to (B, tiles * G, queries, D), with zeros where a tile overhangs."""
    b, h, w, g, d = x.shape
    x = append_zeros(x, overhang(h, rows.size), overhang(w, columns.size))
    x = x.view(b, rows.count, rows.size, columns.count, columns.size, g, d)
    return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, -1, rows.size * columns.size, d)


def _from_tiles(x: Tensor, rows: Tiles, columns: Tiles, strip: Tensor) -> Tensor:
    """Undo :func:`_to_tiles`, to the shape of ``strip``."""
    b, h, w, g, d = strip.shape
    x = x.view(b, rows.count, columns.count, g, rows.size, columns.size, d)
    x = x.permute(0, 1, 4, 2, 5, 3, 6).reshape(b, rows.count * rows.size, -1, g, d)
    return x[:, :h, :w]


def _gather(x: Tensor, rows: Tiles, columns: Tiles) -> Tensor:
    """What each tile reads of a map (B, H, W, G, D): (B, tiles * G, keys, D)."""
    b, _, _, g, d = x.shape
    for dim, axis in ((1, rows), (2, columns)):
        if not axis.covers(x.shape[dim]):
            x = x.index_select(dim, axis.key.flatten())
    x = x.view(b, *rows.key.shape, *columns.key.shape, g, d).permute(0, 1, 3, 5, 2, 4, 6)
    return x.reshape(b, -1, x.shape[4] * x.shape[5], d)


def _bias(table: Tensor, rows: Tiles, columns: Tiles) -> Tensor:
    """Bias of the pairs of each tile, (tiles * G, queries, keys), minus infinity where too far."""
    # Looked up by products with ones and zeros: their backward pass is products again, where that of
    # an index adds up number by number.
    bias = rows.selector(table) @ table @ columns.selector(table).T
    bias = bias.view(table.shape[0], *rows.shift.shape, *columns.shift.shape)
    near = rows.near[:, :, :, None, None, None] & columns.near
    bias = bias.masked_fill(~near, float('-inf')).permute(1, 4, 0, 2, 5, 3, 6)
    return bias.reshape(-1, rows.size * columns.size, bias.shape[5] * bias.shape[6])


def neighborhood_attention_reference(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """The definition of :func:`neighborhood_attention`: gather K x K keys and values of each query."""
    kernel = (table.shape[1] + 1) // 2
    places = []
    for length in q.shape[1:3]:
        query = torch.arange(length, device=q.device)[:, None]
        first = (query - kernel // 2).clamp(0, length - kernel)
        key = first + torch.arange(kernel, device=q.device)
        places.append((key, key - query + kernel - 1))
    (rows, dy), (columns, dx) = places
    shape = q.shape
    cells = (rows[:, None, :, None] * shape[2] + columns[:, None]).flatten(2).flatten(0, 1)
    bias = table[:, dy[:, None, :, None], dx[:, None]].view(len(table), len(cells), 1, -1)
    q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (q, k, v))
    keys, values = k[:, :, cells], v[:, :, cells]  # (B, G, H W, K K, D)
    scores = (q * q.shape[-1] ** -0.5).unsqueeze(3) @ keys.mT + bias
    return (scores.softmax(dim=-1) @ values).squeeze(3).transpose(1, 2).reshape(shape)
