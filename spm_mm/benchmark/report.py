"""Tables and plots of measurements."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from rich.box import MARKDOWN, SIMPLE
from rich.table import Table

from spm_mm.benchmark.measure import Measurement, quartiles
from spm_mm.visualization import save_chart

COLUMNS = {'macs': 'GMACs', 'median': 'time', 'peak_bytes': 'memory'}
"""What grows with the image."""


def slope(sizes: Sequence[tuple[int, int]], values: Sequence[float]) -> float:
    """Slope of the least-squares line of log(value) over log(pixels); 1 is linear in the pixels."""
    x = [math.log(height * width) for height, width in sizes]
    y = [math.log(value) for value in values]
    return statistics.linear_regression(x, y).slope


def slopes(rows: Sequence[Measurement]) -> Table:
    """The slopes over all sizes, for each subject, batch, mode and variant. Empty for one size."""
    table = Table('subject', 'batch', 'pass', 'variant', *COLUMNS.values(), box=SIMPLE)
    for key, series in _series(rows).items():
        if len(series) < 2:
            continue
        columns = ([getattr(row, name) for row in series] for name in COLUMNS)
        sizes = [row.size for row in series]
        fitted = (f'{slope(sizes, c):.2f}' if all(c) else '-' for c in columns)
        table.add_row(key[0], str(key[1]), *key[2:], *fitted)
    return table


def tabulate(rows: Sequence[Measurement], markdown: bool = False) -> Table:
    """One line for each measurement: the median, in brackets the middle half of all rounds."""
    headers = ('size', 'batch', 'pass', 'variant', 'GMACs', 'ms', 'images/s', 'peak MiB')
    table = Table(
        'subject',
        *headers,
        'time to base',
        'memory to base',
        box=MARKDOWN if markdown else SIMPLE,
        caption='time to base: median of the ratios within a round [middle half]',
    )
    for row in rows:
        table.add_row(
            row.subject,
            '{}x{}'.format(*row.size),
            str(row.batch),
            row.mode,
            row.variant,
            f'{row.macs / 1e9:.3f}',
            _spread([1e3 * s for s in row.seconds], '.1f'),
            f'{row.images_per_second:.2f}' if row.seconds else '-',
            '-' if row.peak_bytes is None else f'{row.peak_bytes / 2**20:.1f}',
            _spread(row.ratios, '.3f'),
            '-' if row.memory_ratio is None else f'{row.memory_ratio:.3f}',
        )
    return table


def draw(rows: Sequence[Measurement], path: Path) -> None:
    """Plot time over the number of pixels, both logarithmic, with the fitted slope of each line."""
    series = {key: rows for key, rows in _series(rows).items() if rows[0].seconds}

    def lines(axis: Axes) -> None:
        for (name, batch, mode, variant), line in series.items():
            pixels = [row.size[0] * row.size[1] for row in line]
            label = f'{name}, {mode}, {variant}, batch {batch}'
            if len(line) > 1:
                label += f': slope {slope([r.size for r in line], [r.median for r in line]):.2f}'
            low, high = zip(*(quartiles(row.seconds) for row in line), strict=True)
            (drawn,) = axis.plot(pixels, [row.median for row in line], 'o-', label=label)
            axis.fill_between(pixels, low, high, color=drawn.get_color(), alpha=0.2)
        axis.set(xscale='log', yscale='log')
        axis.legend()

    labels = ('pixels of an image', 'seconds of a pass')
    save_chart(path, lines, 'time by size of the image', labels, size=(8, 5))


def _series(rows: Sequence[Measurement]) -> dict[tuple, list[Measurement]]:
    """What differs in its size alone, from the smallest to the largest."""
    series: dict[tuple, list[Measurement]] = {}
    for row in sorted(rows, key=lambda row: row.size[0] * row.size[1]):
        series.setdefault((row.subject, row.batch, row.mode, row.variant), []).append(row)
    return series


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return '-'
    low, high = quartiles(values)
    # Rich reads brackets as its own mark-up, unless they are escaped.
    return f'{statistics.median(values):{form}} \\[{low:{form}}-{high:{form}}]'
