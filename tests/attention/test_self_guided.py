import pytest
import torch
from torch.nn import functional as F

from spm_mm.attention import HybridScaleAttention, SelfGuidedAttention

SIZES = [(7, 7), (9, 12), (15, 8), (4, 4)]


def group_by_hand(group, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One group of heads at one scale, window by window, without any padding."""
    _, h, w, c = x.shape
    span = group.window_size * group.scale if group.in_windows else max(h, w)
    tokens = x
    if group.scale > 1:
        s = group.scale
        rows = []
        for i in range(0, h, s):
            for j in range(0, w, s):
                patch = x[0, i : i + s, j : j + s].permute(2, 0, 1)  # an overhanging one is cut
                kernel = group.merge.weight[:, :, : patch.shape[1], : patch.shape[2]]
                rows.append((kernel * patch).sum(dim=(1, 2, 3)) + group.merge.bias)
        tokens = torch.stack(rows).view(1, -(-h // s), -(-w // s), c)
        tokens = F.gelu(group.norm(tokens))
    out, received = torch.zeros(h, w, group.q.out_features).to(x), torch.zeros(h, w).to(x)
    heads = group.num_heads
    for i in range(0, h, span):
        for j in range(0, w, span):
            cells = x[0, i : i + span, j : j + span]
            s = group.scale
            keys = tokens[0, i // s : -(-(i + span) // s), j // s : -(-(j + span) // s)]
            q = group.q(cells).flatten(0, 1).unflatten(-1, (heads, -1)).transpose(0, 1)
            k, v = (
                t.flatten(0, 1).unflatten(-1, (heads, -1)).transpose(0, 1)
                for t in group.kv(keys).chunk(2, dim=-1)
            )
            weights = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(dim=-1)
            out[i : i + span, j : j + span] = (
                (weights @ v).transpose(0, 1).reshape(*cells.shape[:2], -1)
            )
            full = span * span if group.in_windows else h * w
            got = (weights.sum(dim=1).mean(dim=0) / full).view(*keys.shape[:2])
            got = got.repeat_interleave(s, 0).repeat_interleave(s, 1)
            received[i : i + span, j : j + span] = got[: cells.shape[0], : cells.shape[1]]
    return out, received


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('in_windows', [False, True])
def test_padding_takes_no_part_in_hybrid_scale_attention(size, in_windows) -> None:
    attention = HybridScaleAttention(16, 4, (2, 1), 3, in_windows=in_windows).double()
    x = torch.randn(1, *size, 16).double()
    out, significance = attention(x)
    by_hand = [group_by_hand(group, x) for group in attention.groups]
    expected = attention.proj(torch.cat([o for o, _ in by_hand], dim=-1)[None] + attention.lepe(x))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(significance[0], sum(s for _, s in by_hand))


def test_local_significance_has_the_mean_of_full_windows_at_any_size() -> None:
    for size in ((7, 7), (9, 12), (3, 20)):
        attention = HybridScaleAttention(16, 2, (1,), guide='local')
        significance = attention(torch.randn(2, *size, 16))[1]
        torch.testing.assert_close(significance.mean(dim=(1, 2)), torch.full((2,), 1 / 49))


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_self_guided_attention_by_hand(size: tuple[int, int]) -> None:
    regions = ((1, 5), (2, 3), (1, 2))
    attention = SelfGuidedAttention(16, 2, regions).double()
    x, significance = torch.randn(2, *size, 16).double(), torch.rand(2, *size)
    out, rest = attention(x, significance)
    assert rest is None
    for i in range(2):
        tokens, merged = x[i].flatten(0, 1), []
        for linear, runs in zip(attention.aggregate, attention.runs(significance), strict=True):
            for run in runs[i]:
                merged.append((tokens[run] * linear.weight[0, :, None]).sum(dim=0) + linear.bias)
        q = attention.q(tokens).view(-1, 2, 8).transpose(0, 1)
        k, v = (
            t.view(-1, 2, 8).transpose(0, 1)
            for t in attention.kv(torch.stack(merged)).chunk(2, dim=-1)
        )
        got = ((q @ k.transpose(1, 2) / 8**0.5).softmax(dim=-1) @ v).transpose(0, 1)
        got = got.reshape(1, *size, 16) + attention.lepe(x[i : i + 1])
        torch.testing.assert_close(out[i : i + 1], attention.proj(got))


def test_equal_significance_groups_in_row_major_order() -> None:
    attention = SelfGuidedAttention(16, 2, ((1, 4), (1, 2)))
    low, high = attention.runs(torch.ones(1, 4, 4))
    assert low[0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert high[0].tolist() == [[8, 9], [10, 11], [12, 13], [14, 15]]


def test_guides() -> None:
    x = torch.randn(1, 9, 12, 16)
    attention = HybridScaleAttention(16, 4, (2, 1), guide='hybrid').eval()
    maps = {}
    for guide in ('hybrid', 'local', 'global', 'manual', None):
        other = HybridScaleAttention(16, 4, (2, 1), guide=guide).eval()
        other.load_state_dict(attention.state_dict())
        out, maps[guide] = other(x)
        torch.testing.assert_close(out, attention(x)[0])
    assert maps[None] is None
    assert (maps['manual'] == 1).all()
    torch.testing.assert_close(maps['hybrid'], maps['local'] + maps['global'])
    assert not maps['hybrid'].requires_grad


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(scales=(8, 4, 1)), r'scales=\(8, 4, 1\), num_heads=4'),
        (dict(scales=(0, 1)), 'each of scales must be a whole number of 1 or more, got 0'),
        (dict(guide='locl'), "guide has unknown value 'locl'.*did you mean 'local'"),
        (dict(scales=(8,), guide='local'), "guide='local' finds no such group in scales"),
        (dict(window_size=0), 'window_size must be a whole number of 1 or more, got 0'),
        (dict(window_size=3.5), 'window_size must be a whole number of 1 or more, got 3.5'),
        (dict(num_heads=3), 'num_heads must divide the channels, got num_heads=3, channels=16'),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridScaleAttention(**{'channels': 16, 'num_heads': 4, 'scales': (8, 1), **arguments})


def test_bad_regions() -> None:
    for regions in ((), ((1, 2, 3),)):
        with pytest.raises(ValueError, match=r'regions must be pairs \(share, rate\)'):
            SelfGuidedAttention(16, 4, regions)
    with pytest.raises(ValueError, match='each rate of regions must be a whole number'):
        SelfGuidedAttention(16, 4, ((1, 0),))
    with pytest.raises(ValueError, match='need a map of at least 4 cells, got 1 x 3'):
        SelfGuidedAttention(16, 4, ((1, 4), (3, 2)))(torch.randn(1, 1, 3, 16), torch.rand(1, 1, 3))


@pytest.mark.parametrize('size', [(7, 7), (14, 14), (9, 12)])
def test_significance_over_the_map(size: tuple[int, int]) -> None:
    """Eq. 5 as printed: attention summed over all queries of the map and divided by hw, per group."""
    torch.manual_seed(0)
    attention = HybridScaleAttention(16, 4, (1, 2), in_windows=True, over_map=True).double()
    x = torch.randn(1, *size, 16, dtype=torch.float64)
    _, significance = attention(x)
    wanted = 0.0
    for group in attention.groups:
        span = group.window_size * group.scale
        wanted = wanted + group_by_hand(group, x)[1] * span**2 / (size[0] * size[1])
    torch.testing.assert_close(significance[0].double(), wanted.double(), rtol=1e-5, atol=1e-8)
    # With one query for each token the sum over all tokens and groups is what all queries give.
    single = HybridScaleAttention(16, 4, (1,), in_windows=True, over_map=True).double()
    assert single(x)[1].sum().item() == pytest.approx(1.0)
