"""Which tokens SG-Former's self-guided attention merges into one (section 3.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def sorted_runs(significance: Tensor, regions: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Sort tokens by significance, divide them into regions, and those into runs to be merged.

    The N tokens, in rising order, are divided in proportion to the shares; a region of n tokens with
    aggregation rate r becomes ceil(n / r) runs of r places, over which its tokens are spread evenly
    and in order: place s of S holds token floor(s n / S). Where r divides n that is every token
    once, as published; elsewhere some tokens stand twice (more often where n < r), none is left out.

    Args:
        significance: (B, N), N at least the sum of the shares. Equal values keep their order.
        regions: Share and rate of each region, from the least to the most significant.

    Returns:
        For each region the tokens of its runs, indices (B, ceil(n / r), r).
    """
    order = significance.argsort(dim=1, stable=True)
    tokens = significance.shape[1]
    total = sum(share for share, _ in regions)
    runs, start, shares = [], 0, 0
    for share, rate in regions:
        shares += share
        stop = tokens * shares // total
        count = -(-(stop - start) // rate)
        place = torch.arange(count, device=order.device)[:, None] * rate
        place = place + torch.arange(rate, device=order.device)
        runs.append(order[:, start + place * (stop - start) // (count * rate)])
        start = stop
    return runs
