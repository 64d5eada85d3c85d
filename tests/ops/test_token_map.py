"""Against the plain reference; against the official code: tests/parity."""

import pytest
import torch

from spm_mm.ops import TokenMap, pool
from spm_mm.ops.token_map import EPSILON
from tests.ops.references import pool_reference

GRIDS = [
    ((6, 10), (3, 5)),
    ((13, 9), (7, 5)),
    ((13, 9), (4, 3)),
    ((6, 10), (6, 10)),
    ((4, 4), (8, 6)),
]


def make_tokens(grid: tuple[int, int], count: int = 11) -> TokenMap:
    index = torch.randint(0, count, (2, *grid))
    weight = torch.rand(2, *grid, dtype=torch.float64) + 0.1
    x = torch.randn(2, count, 5, dtype=torch.float64, requires_grad=True)
    return TokenMap(x, index, weight, ((grid[0] + 1) // 2, (grid[1] + 1) // 2))


def cells_of(grid: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    rows, columns = grid
    return torch.tensor(
        [
            [
                i * size[0] // rows * size[1] + j * size[1] // columns
                for i in range(rows)
                for j in range(columns)
            ]
        ]
        * 2
    )


@pytest.mark.parametrize(('grid', 'size'), GRIDS, ids=str)
def test_maps_and_tokens(grid: tuple[int, int], size: tuple[int, int]) -> None:
    tokens = make_tokens(grid)
    index, cells = tokens.index.flatten(1), cells_of(grid, size)
    spread = torch.stack([x[i] for x, i in zip(tokens.x, index, strict=True)])
    expected = pool_reference(spread, cells, size[0] * size[1]).view(2, *size, 5)
    torch.testing.assert_close(tokens.to_map(size), expected)
    x = torch.randn(2, *size, 5, dtype=torch.float64)
    spread = torch.stack([m[i] for m, i in zip(x.flatten(1, 2), cells, strict=True)])
    torch.testing.assert_close(tokens.from_map(x), pool_reference(spread, index, 11))
    other = make_tokens(grid, 7)
    spread = torch.stack([y[i] for y, i in zip(other.x, other.index.flatten(1), strict=True)])
    expected = pool_reference(spread, index, 11, tokens.weight.flatten(1))
    torch.testing.assert_close(tokens.gather(other), expected)


@pytest.mark.parametrize('weighted', [True, False])
def test_gradients(weighted: bool) -> None:
    values = torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True)
    weight = (torch.rand(2, 9, dtype=torch.float64) + 0.1).requires_grad_() if weighted else None
    index = torch.randint(0, 4, (2, 9))
    inputs = [values, weight] if weighted else [values]
    gradients = [
        torch.autograd.grad(function(values, index, 4, weight).square().sum(), inputs)
        for function in (pool, pool_reference)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_whole_map() -> None:
    x = torch.randn(2, 5, 7, 3)
    tokens = TokenMap.of_map(x)
    assert torch.equal(tokens.to_map(), x)
    assert torch.equal(tokens.from_map(x), tokens.x)
    coarse = torch.randn(2, 3, 4, 3)
    up = torch.nn.functional.interpolate(coarse.permute(0, 3, 1, 2), size=(5, 7))
    torch.testing.assert_close(
        tokens.from_map(coarse).view(2, 5, 7, 3) * (1 + EPSILON), up.permute(0, 2, 3, 1)
    )


def test_merging_twice() -> None:
    """Cells follow their token, and their weights multiply: a token stays the mean of its cells."""
    x = torch.randn(2, 6, 8, 4, dtype=torch.float64)
    tokens = whole = TokenMap.of_map(x)
    for count in (20, 5):
        n = tokens.x.shape[1]
        cluster = torch.cat(
            [torch.randperm(count).expand(2, -1), torch.randint(0, count, (2, n - count))], dim=1
        )
        importance = torch.rand(2, n, dtype=torch.float64) + 0.5
        tokens = tokens.merge(cluster, count, importance, (3, 4))
    assert tokens.x.shape == (2, 5, 4)
    torch.testing.assert_close(tokens.gather(whole), tokens.x, rtol=1e-5, atol=1e-5)


def test_sums_of_half_precision_are_float32() -> None:
    values = torch.full((1, 4096, 1), 0.1).bfloat16()
    mean = pool(values, torch.zeros(1, 4096, dtype=torch.long), 1)
    assert mean.dtype == torch.bfloat16
    assert torch.equal(mean[0, 0], values[0, 0])
