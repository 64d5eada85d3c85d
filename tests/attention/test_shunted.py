import pytest
import torch
from torch.nn import functional as F

from spm_mm.attention import LocalValueAttention, ShuntedAttention


def conv(layer: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def heads(x: torch.Tensor, width: int) -> list[torch.Tensor]:
    return list(x.flatten(1, 2).split(width, dim=-1))


@pytest.mark.parametrize('size', [(8, 12), (9, 7), (4, 4)], ids=str)
def test_shunted_attention_by_hand(size: tuple[int, int]) -> None:
    """Head by head: two read the coarse scale, two the fine one."""
    attention = ShuntedAttention(16, 4, 4).double()
    x = torch.randn(2, *size, 16).double()
    queries, outs = heads(attention.q(x), 4), []
    for i, branch in enumerate(attention.branches):
        context = F.gelu(branch.norm(conv(branch.merge, x)))
        assert context.shape[1:3] == tuple(side // (4, 2)[i] for side in size)
        k, v = branch.kv(context).split(8, dim=-1)
        v = v + conv(branch.local, v)
        for q, key, value in zip(queries[2 * i :], heads(k, 4), heads(v, 4), strict=False):
            outs.append((q @ key.mT / 2).softmax(dim=-1) @ value)
    expected = attention.proj(torch.cat(outs, dim=-1).view(x.shape))
    torch.testing.assert_close(attention(x), expected)


def test_local_values_by_hand() -> None:
    attention = LocalValueAttention(8, 2).double()
    x = torch.randn(2, 3, 5, 8).double()
    k, v = attention.kv(x).split(8, dim=-1)
    outs = [
        (q @ key.mT / 2).softmax(dim=-1) @ value
        for q, key, value in zip(*(heads(t, 4) for t in (attention.q(x), k, v)), strict=True)
    ]
    out = torch.cat(outs, dim=-1).view(x.shape) + conv(attention.local, v)
    torch.testing.assert_close(attention(x), attention.proj(out))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_heads=1), 'num_heads must be even, got 1'),
        (dict(num_heads=6), 'num_heads=6, channels=16'),
        (dict(sr_ratio=3), 'sr_ratio must be even, got 3'),
        (dict(sr_ratio=0), 'sr_ratio must be a whole number of 2 or more, got 0'),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShuntedAttention(**{'channels': 16, 'num_heads': 4, 'sr_ratio': 4, **arguments})


def test_map_too_small() -> None:
    with pytest.raises(ValueError, match='sr_ratio=4 needs a map of at least 4 rows and columns'):
        ShuntedAttention(16, 4, 4)(torch.randn(1, 3, 8, 16))
