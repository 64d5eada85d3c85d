import math

import pytest
import torch
from torch.nn import functional as F

from spm_mm.attention import WindowAttention
from spm_mm.attention.window import split_regions


def by_hand(attention: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """The definition, one query after the other; what windows do not divide is filled up with zeros."""
    b, h, w, c = x.shape
    size, shift, heads = attention.window_size, attention.shift, attention.num_heads
    rows, columns = (math.ceil(side / size) * size for side in (h, w))
    filled = x.new_zeros(b, rows, columns, c)
    filled[:, :h, :w] = x
    q, k, v = attention.qkv(filled).view(b, rows, columns, 3, heads, c // heads).unbind(3)
    table = attention.relative_position_bias_table.table[0]

    def window(row: int, column: int) -> tuple:
        # Windows start `shift` cells before multiples of the size; those at a border are cut.
        return tuple((i - shift) // size for i in (row, column))

    out = torch.zeros_like(x)
    for y in range(h):
        for z in range(w):
            cells = [
                (i, j) for i in range(rows) for j in range(columns) if window(i, j) == window(y, z)
            ]
            keys = torch.stack([k[:, i, j] for i, j in cells], dim=2)  # (B, G, T, D)
            values = torch.stack([v[:, i, j] for i, j in cells], dim=2)
            bias = torch.stack([table[y - i + size - 1, z - j + size - 1] for i, j in cells], dim=1)
            scores = (q[:, y, z, :, None] * keys).sum(-1) * (c // heads) ** -0.5 + bias
            out[:, y, z] = (scores.softmax(-1)[..., None] * values).sum(2).flatten(1)
    return attention.proj(out)


@pytest.mark.parametrize('size', [(8, 12), (7, 9)], ids=str)
@pytest.mark.parametrize('shift', [0, 2])
def test_equals_the_definition(shift: int, size: tuple[int, int]) -> None:
    attention = WindowAttention(8, 2, window_size=4, shift=shift).double()
    with torch.no_grad():
        attention.relative_position_bias_table.table.normal_()
        attention.qkv.bias.normal_()  # what the filling is read as
    x = torch.randn(2, *size, 8, dtype=torch.float64, requires_grad=True)
    ours, theirs = attention(x), by_hand(attention, x)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    inputs = (x, *attention.parameters())
    grads = [torch.autograd.grad((out * weight).sum(), inputs) for out in (ours, theirs)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_padding_is_a_zero_token_that_is_attended_to() -> None:
    attention = WindowAttention(8, 2, window_size=4, shift=1)
    torch.nn.init.normal_(attention.qkv.bias)
    x = torch.randn(1, 6, 7, 8)
    padded = F.pad(x, (0, 0, 0, 1, 0, 2))
    torch.testing.assert_close(attention(x), attention(padded)[:, :6, :7])


def test_small_maps_are_shifted_only_if_asked_for() -> None:
    shifted = WindowAttention(8, 2, window_size=4, shift=2)
    still = WindowAttention(8, 2, window_size=4, shift=2, shift_small_maps=False)
    plain = WindowAttention(8, 2, window_size=4)
    for other in (still, plain):
        other.load_state_dict(shifted.state_dict())
    for size in ((4, 4), (3, 9)):
        x = torch.randn(1, *size, 8)
        torch.testing.assert_close(still(x), plain(x))
        assert not torch.allclose(shifted(x), plain(x))
    x = torch.randn(1, 5, 9, 8)
    torch.testing.assert_close(still(x), shifted(x))


def test_regions() -> None:
    mask = split_regions(4, 4, size=2, shift=1)
    assert mask.shape == (4, 4, 4)
    assert not mask[0].any()  # the first window has no border in it
    assert torch.equal(mask[3], ~torch.eye(4, dtype=torch.bool))  # four corners of the map meet


def test_table_of_another_window_is_resized_on_loading() -> None:
    small, large = (WindowAttention(8, 2, window_size=size) for size in (4, 7))
    large.load_state_dict(small.state_dict())
    table = large.relative_position_bias_table.table
    assert table.shape == (1, 13, 13, 2)
    torch.testing.assert_close(table[0, 6, 6], small.relative_position_bias_table.table[0, 3, 3])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(channels=8, num_heads=3), 'num_heads must divide the channels'),
        (dict(channels=8, num_heads=2, window_size=(7, 7)), 'window_size must be a whole number'),
        (dict(channels=8, num_heads=2, window_size=4, shift=4), 'shift must be below window_size'),
        (
            dict(channels=8, num_heads=2, window_size=0),
            'a whole number of 1 or more, got 0',
        ),
    ],
)
def test_errors(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowAttention(**arguments)
