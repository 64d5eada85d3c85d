"""Windows, received attention and sorted runs against their plain definitions."""

from importlib import import_module

import pytest
import torch

from spm_mm.ops import (
    from_windows,
    received_attention,
    sorted_runs,
    to_windows,
)
from tests.ops.references import received_attention_reference, sorted_runs_reference


@pytest.mark.parametrize('size', [(7, 7), (14, 21), (8, 20), (3, 1)], ids=str)
def test_windows_and_back(size: tuple[int, int]) -> None:
    x = torch.randn(2, *size, 3)
    windows = to_windows(x, 7)
    assert windows.shape == (2, -(-size[0] // 7) * -(-size[1] // 7), 49, 3)
    assert torch.equal(from_windows(windows, 7, *size), x)
    torch.testing.assert_close(windows.sum(dim=(1, 2)), x.sum(dim=(1, 2)))  # padded by zeros


def test_windows_are_row_by_row() -> None:
    x = torch.arange(4 * 6).view(1, 4, 6, 1)
    windows = to_windows(x, 2)[0, :, :, 0]
    assert windows[0].tolist() == [0, 1, 6, 7]
    assert windows[1].tolist() == [2, 3, 8, 9]
    assert windows[3].tolist() == [12, 13, 18, 19]


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('at_a_time', [3, 4096])
def test_received_attention(masked: bool, at_a_time: int, monkeypatch) -> None:
    module = import_module('spm_mm.ops.received_attention')  # the function has the same name
    monkeypatch.setattr(module, 'QUERIES_AT_A_TIME', at_a_time)
    q, k = torch.randn(2, 3, 4, 8).double(), torch.randn(2, 3, 5, 8).double()
    masks = {}
    if masked:
        masks['key_mask'] = torch.tensor([[True] * 5, [True, False, True, True, False]])
        masks['query_mask'] = torch.tensor([[True] * 4, [True, True, False, True]])
    received = received_attention(q.requires_grad_(), k, **masks)
    assert not received.requires_grad
    torch.testing.assert_close(received, received_attention_reference(q.detach(), k, **masks))
    if masked:
        assert (received[1, [1, 4]] == 0).all()
        torch.testing.assert_close(received[1].sum().item(), 3 / 4)


def test_received_attention_is_never_below_float32() -> None:
    q = torch.randn(1, 1, 4, 8, dtype=torch.bfloat16)
    assert received_attention(q, q).dtype == torch.float32


REGIONS = [
    ((1, 196), (2, 56), (1, 28)),
    ((1, 2), (1, 1)),
    ((1, 3), (1, 2), (1, 2), (1, 1)),
    ((1, 5),),
]


@pytest.mark.parametrize('regions', REGIONS, ids=str)
@pytest.mark.parametrize('tokens', [4, 9, 108, 250])
def test_sorted_runs(regions: tuple, tokens: int) -> None:
    significance = torch.randn(2, tokens)
    significance[:, 1] = significance[:, 2]  # equal values keep their order
    runs = sorted_runs(significance, regions)
    assert [run.tolist() for run in runs] == sorted_runs_reference(significance, regions)
    for i in range(2):
        used = torch.cat([run[i].flatten() for run in runs])
        assert set(used.tolist()) == set(range(tokens)), 'a token is left out'


def test_runs_of_the_published_sizes_hold_every_token_once() -> None:
    for side, regions in ((56, REGIONS[0]), (112, REGIONS[0]), (14, REGIONS[1]), (28, REGIONS[1])):
        runs = sorted_runs(torch.randn(1, side * side), regions)
        used = torch.cat([run.flatten() for run in runs])
        assert sorted(used.tolist()) == list(range(side * side))
        shares = sum(share for share, _ in regions)
        counts = [side * side * share // shares // rate for share, rate in regions]
        assert [run.shape[1] for run in runs] == counts
