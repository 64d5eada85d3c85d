"""Attention of every cell of a map to the K x K cells around it (NAT), with a bias for each shift.

Along an axis of L cells, cell i reads the K cells from clamp(i - K // 2, 0, L - K) on: near a border
the window is shifted inside, never cut. The bias of the shift from query to key needs 2 K - 1 numbers
an axis, the outer ones for cells near a border.

Gathering K x K keys for every query copies the map 49 times for K = 7 and is bound by memory. Here the
queries go in square tiles instead: the K x K queries of a tile read (2 K - 1) x (2 K - 1) keys between
them, and their attention is one dense product in which a mask leaves out what lies too far. That is 3.4
times the products for K = 7, without the copies. A map of at most two tiles a side is one tile: there
this is one product over the whole map. ``tools/analysis_tools/benchmark.py --neighborhood`` measures
it beside both other routes.

To PyTorch it is one operator, which keeps nothing for the backward pass but its arguments. Its backward
pass has no derivative of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.errors import UserError
from spm_mm.ops.windows import overhang

STRIP = 2**24
"""Pairs of queries and keys of an image at a time, in all heads: 64 MB in float32. One row of tiles may
have more."""


def neighborhood_attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """Multi-head neighborhood attention with a relative position bias.

    Args:
        q: Queries (B, H, W, G, D), H and W at least K.
        k: Keys, likewise.
        v: Values, likewise.
        table: Bias of each shift, key minus query, (G, 2 K - 1, 2 K - 1); no shift is in the middle.

    Returns:
        (B, H, W, G, D).

    Raises:
        ValueError: If ``table`` is not of an odd K, or the map is smaller than K.
    """
    rows, columns = table.shape[1:]
    if rows != columns or rows % 4 != 1:
        raise UserError(
            f'table must be (G, 2 K - 1, 2 K - 1) with an odd K, got {tuple(table.shape)}'
        )
    if 2 * min(q.shape[1:3]) <= rows:
        raise UserError(
            f'a map must have {(rows + 1) // 2} rows and columns, got {tuple(q.shape[1:3])}'
        )
    return _attention(q, k, v, table)


@torch.library.custom_op('spm_mm::neighborhood_attention', mutates_args=())
def _attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    outs = []
    for place, rows, columns in _strips(q, table):
        queries = _to_tiles(q[:, place], rows, columns)
        keys, values = (_gather(x, rows, columns) for x in (k, v))
        bias = _bias(table, rows, columns).to(q.dtype)
        # A mask of four dimensions, or PyTorch's fused kernel for the CPU does not take it.
        out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias[None])
        outs.append(_from_tiles(out, rows, columns, q[:, place]))
    return torch.cat(outs, dim=1)


@torch.library.custom_op('spm_mm::neighborhood_attention_backward', mutates_args=())
def _attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, table: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scale, exact = q.shape[-1] ** -0.5, torch.promote_types(q.dtype, torch.float32)
    grads_q, grad_k, grad_v = [], _empty(k).zero_(), _empty(v).zero_()
    grad_table = torch.zeros_like(table, dtype=exact)
    for place, rows, columns in _strips(q, table):
        queries, outs = (_to_tiles(x[:, place], rows, columns) for x in (q, grad))
        keys, values = (_gather(x, rows, columns) for x in (k, v))
        scores = (queries * scale @ keys.mT).to(exact).add_(_bias(table, rows, columns))
        weights = scores.softmax(dim=-1)
        grad_v += _scatter(weights.to(q.dtype).mT @ outs, rows, columns, v)
        # In the same memory: fresh memory of this size costs as much time as the product.
        same = scores if exact == q.dtype else None
        scores = torch.matmul(outs, values.mT, out=same).to(exact)
        scores.sub_(torch.linalg.vecdot(scores, weights)[..., None]).mul_(weights)
        grad_table += _grad_table(scores.sum(dim=0), rows, columns, table)
        scores = scores.to(q.dtype).mul_(scale)
        grads_q.append(_from_tiles(scores @ keys, rows, columns, q[:, place]))
        grad_k += _scatter(scores.mT @ queries, rows, columns, k)
    return torch.cat(grads_q, dim=1), grad_k, grad_v, grad_table.to(table.dtype)


def _empty(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    return _empty(q)


@_attention_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, table: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty(q), _empty(k), _empty(v), _empty(table)


_attention.register_autograd(
    lambda ctx, grad: _attention_backward(grad, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


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
        # An axis of up to two tiles stays whole: fewer, larger products.
        count = 1 if length <= 2 * kernel else -(-length // kernel)
        size = -(-length // count)
        keys = min(length, size + kernel - 1)
        query = torch.arange(count * size, device=device).view(count, size)
        first = (query - kernel // 2).clamp(0, length - kernel)
        key = first[:, :1].clamp(max=length - keys) + torch.arange(keys, device=device)
        behind = key[:, None] - first[..., None]
        shift = key[:, None] - query[..., None] + kernel - 1
        return cls(key, shift, (behind >= 0) & (behind < kernel))

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
        return self.key.shape == (1, length)

    def selector(self, table: Tensor) -> Tensor:
        """One row for each pair of query and key, 1 at their shift; all 0 where there is no such."""
        shifts = torch.arange(table.shape[1], device=table.device)
        return (self.shift.flatten()[:, None] == shifts).to(table.dtype)


def _strips(q: Tensor, table: Tensor) -> Iterator[tuple[slice, Tiles, Tiles]]:
    """The map in strips of whole rows of tiles: rows of cells, tiles of rows, tiles of columns."""
    height, width, heads = q.shape[1:4]
    kernel = (table.shape[1] + 1) // 2
    rows, columns = (Tiles.of(side, kernel, q.device) for side in (height, width))
    step = max(1, STRIP // (heads * rows.shift[0].numel() * columns.shift.numel()))
    for i in range(0, rows.count, step):
        place = slice(i * rows.size, min((i + step) * rows.size, height))
        yield place, rows[i : i + step], columns


def _to_tiles(x: Tensor, rows: Tiles, columns: Tiles) -> Tensor:
    """A strip (B, H, W, G, D) to (B, tiles * G, queries, D), with zeros where a tile overhangs."""
    b, h, w, g, d = x.shape
    bottom, right = overhang(h, rows.size), overhang(w, columns.size)
    if bottom or right:
        x = F.pad(x, (0, 0, 0, 0, 0, right, 0, bottom))
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


def _scatter(x: Tensor, rows: Tiles, columns: Tiles, like: Tensor) -> Tensor:
    """The adjoint of :func:`_gather`: add up what belongs to each cell, in the shape of ``like``."""
    b, h, w, g, d = like.shape
    x = x.view(b, rows.count, columns.count, g, rows.key.shape[1], columns.key.shape[1], d)
    x = x.permute(0, 1, 4, 2, 5, 3, 6).reshape(b, rows.key.numel(), columns.key.numel(), g, d)
    for dim, axis, length in ((2, columns, w), (1, rows, h)):
        if not axis.covers(length):
            size = [*x.shape[:dim], length, *x.shape[dim + 1 :]]
            x = x.new_zeros(size).index_add_(dim, axis.key.flatten(), x)
    return x


def _bias(table: Tensor, rows: Tiles, columns: Tiles) -> Tensor:
    """Bias of the pairs of each tile, (tiles * G, queries, keys), minus infinity where too far."""
    # Looked up by products with ones and zeros: their adjoint is products again, where that of an
    # index adds up number by number.
    bias = rows.selector(table) @ table @ columns.selector(table).T
    bias = bias.view(len(table), *rows.shift.shape, *columns.shift.shape)
    near = rows.near[:, :, :, None, None, None] & columns.near
    bias = bias.masked_fill_(~near, float('-inf')).permute(1, 4, 0, 2, 5, 3, 6)
    return bias.reshape(-1, rows.size * columns.size, bias.shape[5] * bias.shape[6])


def _grad_table(grad: Tensor, rows: Tiles, columns: Tiles, table: Tensor) -> Tensor:
    """The adjoint of :func:`_bias`."""
    g, (_, ty, sy), (_, tx, sx) = len(table), rows.shift.shape, columns.shift.shape
    grad = grad.view(rows.count, columns.count, g, ty, tx, sy, sx).permute(2, 0, 3, 5, 1, 4, 6)
    grad = grad.reshape(g, rows.shift.numel(), columns.shift.numel())
    selectors = (axis.selector(table).to(grad.dtype) for axis in (rows, columns))
    return next(selectors).T @ grad @ next(selectors)


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
