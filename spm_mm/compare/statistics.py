"""Means over seeds and differences with their confidence intervals."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ['METHOD', 'Difference', 'mean', 'paired_difference', 'spread']

CONFIDENCE = 0.95
LEAST_SEEDS = 3
METHOD = (
    'Mean and sample standard deviation over the seeds. The difference to the first column is the'
    ' mean of the differences seed by seed, with the 95 % confidence interval of the paired t-test'
    ' (scipy.stats.ttest_rel); runs of one seed see the same batches. Each interval stands alone: it'
    ' is not widened for the number of columns. With fewer than'
    f' {LEAST_SEEDS} common seeds nothing can be told apart.'
)


@dataclass(frozen=True)
class Difference:
    """A mean difference; ``low`` and ``high`` bound its confidence interval, None without one."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def verdict(self) -> str:
        """``'higher'``, ``'lower'``, ``'not told apart'``."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return 'not told apart'
        return 'higher' if self.low > 0 else 'lower'


def mean(values: Mapping[int, float]) -> float | None:
    return statistics.fmean(values.values()) if values else None


def spread(values: Mapping[int, float]) -> float | None:
    """Sample standard deviation; None for fewer than two values."""
    return statistics.stdev(values.values()) if len(values) > 1 else None


def paired_difference(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """``values`` minus ``base``, both by seed, over the seeds that both have; None without one."""
    seeds = sorted(values.keys() & base.keys())
    if not seeds:
        return None
    ours, theirs = (np.array([one[seed] for seed in seeds]) for one in (values, base))
    difference = float((ours - theirs).mean())
    if len(seeds) < LEAST_SEEDS:
        return Difference(difference, None, None, len(seeds))
    if np.ptp(ours - theirs) < 1e-12 * max(1.0, abs(difference)):
        # The test divides by the spread; equal differences are no proof of an interval of no width.
        return Difference(difference, None, None, len(seeds))
    interval = stats.ttest_rel(ours, theirs).confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)
    if not math.isfinite(low + high):
        return Difference(difference, None, None, len(seeds))
    return Difference(difference, low, high, len(seeds))
