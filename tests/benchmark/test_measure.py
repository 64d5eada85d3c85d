import pytest
import torch

from spm_mm.benchmark import Measurement, slope, slopes, tabulate
from spm_mm.benchmark.measure import Plan, alternate, peak_memory

MIB = 2**20


def test_peak_memory() -> None:
    """Two maps of a MiB at once, then three: what is freed before counts no more."""

    def run() -> None:
        one = torch.empty(MIB // 4)
        two = torch.empty(MIB // 4)
        del one
        three, four = torch.empty(MIB // 4), torch.empty(MIB // 4)
        del two, three, four

    run()
    assert peak_memory(run, 'cpu') == pytest.approx(3 * MIB, rel=0.01)


def test_rounds_turn_round() -> None:
    calls = []
    seconds = alternate([lambda: calls.append(0), lambda: calls.append(1)], Plan(repeat=3))
    assert calls == [0, 0, 1, 1, 1, 1, 0, 0] * 2  # the first of four rounds does not count
    assert [len(values) for values in seconds] == [3, 3]


def test_slope() -> None:
    sizes = [(64, 64), (100, 120), (300, 200)]
    assert slope(sizes, [3.0 * h * w for h, w in sizes]) == pytest.approx(1)
    assert slope(sizes, [0.5 * (h * w) ** 2 for h, w in sizes]) == pytest.approx(2)


def test_tables() -> None:
    rows = [
        Measurement(
            'a', (side, side), 1, 'inference', 'float32', side**2, [side**2 / 1e6] * 3, [1.0] * 3
        )
        for side in (64, 128)
    ]
    assert tabulate(rows).row_count == 2
    assert slopes(rows).row_count == 1
    assert slopes(rows[:1]).row_count == 0
