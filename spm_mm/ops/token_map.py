"""Tokens that have left the grid, and the ways between them and maps.

HAFA's semantic aggregation (section 3.3) merges tokens wherever they lie. Each token then stands for a
set of cells of the grid that the tokens were born on; maps of any other size reach those cells by
nearest-neighbour interpolation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-6
"""What the published code adds to each sum of weights: the mean of one cell is 1 / (1 + 1e-6) of it."""


@dataclass(frozen=True)
class TokenMap:
    """Tokens (B, N, C) and the cells of the initial grid (H0, W0) that they stand for.

    Args:
        x: Tokens (B, N, C).
        index: Token of each cell of the initial grid, integers (B, H0, W0) from 0 to N - 1.
        weight: How much each cell counts in its token, (B, H0, W0); :meth:`gather` reads it.
        size: Rows and columns (H, W) of the map that the tokens stand for.
        context: Map (B, h, w, C) that the next block makes its keys and values of; None: of the tokens.
        context_score: Importance (B, h, w) of the cells of ``context``, or None.
    """

    x: Tensor
    index: Tensor
    weight: Tensor
    size: tuple[int, int]
    context: Tensor | None = None
    context_score: Tensor | None = None

    @classmethod
    def of_map(cls, x: Tensor) -> 'TokenMap':
        """Every cell of a map (B, H, W, C) as a token of its own, row by row."""
        b, h, w, _ = x.shape
        index = torch.arange(h * w, device=x.device).view(1, h, w).expand(b, -1, -1)
        return cls(x.flatten(1, 2), index, torch.ones_like(index, dtype=x.dtype), (h, w))

    def with_tokens(self, x: Tensor) -> 'TokenMap':
        """Other tokens (B, N, C') for the same cells; there is no context any more."""
        return TokenMap(x, self.index, self.weight, self.size)

    def with_context(self, context: Tensor, score: Tensor) -> 'TokenMap':
        """The same tokens with a :attr:`context` and its :attr:`context_score`."""
        return TokenMap(self.x, self.index, self.weight, self.size, context, score)

    def to_map(self, size: tuple[int, int] | None = None) -> Tensor:
        """Tokens to a map: each cell is the mean over the initial cells in it of their tokens.

        Args:
            size: Rows and columns of the map; default :attr:`size`. Cells of a map finer than the
                initial grid may hold no initial cell: they are 0.

        Returns:
            (B, H, W, C).
        """
        size = self.size if size is None else size
        b, n, c = self.x.shape
        grid = self.index.shape[1:]
        if size[0] == grid[0] and size[1] == grid[1]:
            if n == size[0] * size[1]:
                return self.x.view(b, *size, c)
            return _take(self.x, self.index.flatten(1)).view(b, *size, c) / (1 + EPSILON)
        cells = _cells(grid, size, self.index.device).expand(b, -1)
        values = _take(self.x, self.index.flatten(1))
        return pool(values, cells, size[0] * size[1]).view(b, *size, c)

    def from_map(self, x: Tensor) -> Tensor:
        """A map (B, H, W, C) to tokens (B, N, C): the mean over a token's initial cells of the map."""
        b, h, w, c = x.shape
        n, grid = self.x.shape[1], self.index.shape[1:]
        whole = n == grid[0] * grid[1]
        if whole and h == grid[0] and w == grid[1]:
            return x.reshape(b, n, c)
        cells = _cells(grid, (h, w), self.index.device)
        values = x.flatten(1, 2)[:, cells]
        return values / (1 + EPSILON) if whole else pool(values, self.index.flatten(1), n)

    def gather(self, source: 'TokenMap') -> Tensor:
        """Another set of tokens, born on the same grid, to these: (B, N, C of the source).

        Each is the mean over its initial cells of the source's tokens there, weighted by
        :attr:`weight`.
        """
        values = _take(source.x, source.index.flatten(1))
        return pool(values, self.index.flatten(1), self.x.shape[1], self.weight.flatten(1))

    def merge(
        self, cluster: Tensor, count: int, importance: Tensor, size: tuple[int, int]
    ) -> 'TokenMap':
        """Each cluster to one token, the mean of its tokens weighted by their importance.

        Args:
            cluster: Cluster of each token, integers (B, N) from 0 to ``count`` - 1.
            count: Number of clusters.
            importance: Positive weights (B, N).
            size: Rows and columns of the map that the merged tokens stand for.
        """
        totals = _scatter_sum(importance[..., None], cluster, count)
        share = importance / (_take(totals, cluster)[..., 0] + EPSILON)
        cells = self.index.flatten(1)
        return TokenMap(
            _scatter_sum(self.x * share[..., None], cluster, count).to(self.x.dtype),
            cluster.gather(1, cells).view(self.index.shape),
            self.weight * share.gather(1, cells).view(self.index.shape),
            size,
        )


def by_token(layer: Callable[[Tensor], Tensor], x: Tensor | TokenMap) -> Tensor | TokenMap:
    """Apply a layer that works on each token by itself to either kind of features."""
    return x.with_tokens(layer(x.x)) if isinstance(x, TokenMap) else layer(x)


def as_map(x: Tensor | TokenMap) -> Tensor:
    """A map (B, H, W, C) of either kind of features."""
    return x.to_map() if isinstance(x, TokenMap) else x


def pool(values: Tensor, index: Tensor, count: int, weight: Tensor | None = None) -> Tensor:
    """Weighted means of the values that share an index, added up in float32 or better.

    Args:
        values: (B, P, C).
        index: Integers (B, P) from 0 to ``count`` - 1.
        count: Number of means.
        weight: (B, P); default 1.

    Returns:
        (B, count, C); the sum of weights is enlarged by :data:`EPSILON`, so an empty mean is 0.
    """
    weight = torch.ones_like(values[..., :1]) if weight is None else weight[..., None]
    total = _scatter_sum(torch.cat((values * weight, weight), dim=-1), index, count)
    return (total[..., :-1] / (total[..., -1:] + EPSILON)).to(values.dtype)


def _scatter_sum(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sums (B, count, C) of the values (B, P, C) that share an index (B, P), in float32 or better."""
    b, _, c = values.shape
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    total, rows, values = values.new_zeros(b * count, c), _rows(index, count), values.flatten(0, 1)
    if values.is_cuda:  # there `index_add` adds in another order in every run; this one sorts
        total = total.index_put((rows,), values, accumulate=True)
    else:
        total = total.index_add(0, rows, values)
    return total.view(b, count, c)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Tokens (B, P, C) of (B, N, C) at an index (B, P)."""
    b, n, c = x.shape
    return x.reshape(b * n, c)[_rows(index, n)].view(b, -1, c)


def _rows(index: Tensor, count: int) -> Tensor:
    """Index (B, P) into B tables of ``count`` rows to one into all of them, flat."""
    return (index + count * torch.arange(index.shape[0], device=index.device)[:, None]).flatten()


def _cells(grid: tuple[int, int], size: tuple[int, int], device: torch.device) -> Tensor:
    """The cell of a map of ``size`` in which each cell of ``grid`` lies, (H0 * W0)."""
    rows, columns = (
        torch.arange(cells, device=device) * side // cells
        for cells, side in zip(grid, size, strict=True)
    )
    return (rows[:, None] * size[1] + columns).flatten()
