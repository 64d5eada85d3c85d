import pytest
import torch

from spm_mm.attention import NeighborhoodAttention
from spm_mm.ops import neighborhood_attention_reference


def by_hand(attention: NeighborhoodAttention, x: torch.Tensor) -> torch.Tensor:
    """Small maps filled up with zeros before the projections, as NATTEN 0.14 documents it."""
    _, h, w, c = x.shape
    filled = x.new_zeros(1, max(h, 7), max(w, 7), c)
    filled[:, :h, :w] = x
    q, k, v = (
        part.view(*filled.shape[:3], 2, 4) for part in attention.qkv(filled).split(c, dim=-1)
    )
    out = neighborhood_attention_reference(q, k, v, attention.relative_position_bias_table)
    return attention.proj(out.flatten(3))[:, :h, :w]


@pytest.mark.parametrize('size', [(9, 12), (7, 7), (3, 12), (8, 6), (1, 1)], ids=str)
def test_maps_below_the_kernel_are_filled_up(size: tuple[int, int]) -> None:
    attention = NeighborhoodAttention(8, 2).double()
    torch.nn.init.normal_(attention.qkv.bias)  # what the filling is read as
    x = torch.randn(1, *size, 8).double()
    torch.testing.assert_close(attention(x), by_hand(attention, x))


def test_on_a_map_of_the_kernel_every_token_reads_all() -> None:
    attention = NeighborhoodAttention(8, 2)
    x = torch.randn(1, 7, 7, 8)
    changed = x.clone()
    changed[0, 0, 0] += 1
    moved = (attention(changed) - attention(x)).abs().amax(dim=-1)
    assert (moved > 0).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_heads=3), 'num_heads=3, channels=8'),
        (dict(kernel_size=4), 'kernel_size must be odd and 3 or more, got 4'),
        (dict(kernel_size=1), 'kernel_size must be odd and 3 or more, got 1'),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeighborhoodAttention(**{'channels': 8, 'num_heads': 2, **arguments})
