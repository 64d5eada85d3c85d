"""One style for every picture: fonts, sizes, colours, legends and scales."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from PIL import Image

__all__ = [
    'INK',
    'LINES',
    'MARK',
    'PALETTE',
    'VALUES',
    'WRONG',
    'add_legend',
    'add_scale',
    'add_scale_bar',
    'hex_colour',
    'many_colours',
    'new_figure',
]

Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (86, 180, 233),
    (0, 0, 0),
    (105, 30, 0),
    (0, 0, 120),
    (15, 0, 255),
    (240, 228, 66),
    (230, 225, 215),
)
"""Colours of classes, RGB from 0 to 255, that colour-blind people can tell apart.

Okabe and Ito's eight (Color Universal Design, 2002) and four more, chosen so that every pair stays at
least 17 apart in CIELAB, also as a protanope and as a deuteranope see it.
"""
WRONG: Colour = (216, 27, 96)
"""Pixels whose class is wrong."""
MARK: Colour = (213, 94, 0)
"""Marked places."""
VALUES = 'viridis'
"""Colour map of values."""
INK = 'Greys'
"""Colour map of values that a paper draws in black on white."""
GOLDEN_RATIO = 0.618034


def hex_colour(colour: Sequence[int]) -> str:
    """Write RGB from 0 to 255 as ``#rrggbb``."""
    return '#{:02x}{:02x}{:02x}'.format(*colour)


LINES = tuple(map(hex_colour, PALETTE[:10]))
"""Colours of lines, points and bars: those of the palette that are visible on white."""

STYLE = {
    'font.family': ['DejaVu Sans', 'sans-serif'],
    'font.size': 9,
    'figure.titlesize': 11,
    'axes.titlesize': 9,
    'legend.fontsize': 8,
    'savefig.dpi': 120,
    'savefig.bbox': 'tight',
    'savefig.pad_inches': 0.08,
    'image.cmap': VALUES,
    'axes.prop_cycle': cycler(color=LINES),
    'grid.alpha': 0.3,
    'svg.fonttype': 'none',
    'svg.hashsalt': 'spm_mm',
}


@contextmanager
def new_figure(
    path: Path, width: float, height: float, layout: str = 'constrained'
) -> Iterator[Figure]:
    """Draw a figure in the suite's style and write it.

    Args:
        path: PNG file, which gets 256 colours, JPEG file or SVG file. Its folder is made.
        width: In inches.
        height: In inches.
        layout: Layout engine of matplotlib; ``'compressed'`` for pictures of one aspect.

    Yields:
        The empty figure. It is written at the end of the ``with`` block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        yield figure
        if path.suffix == '.svg':
            figure.savefig(path, metadata=dict(Date=None))
            return
        buffer = BytesIO()
        figure.savefig(buffer)
    image = Image.open(buffer).convert('RGB')
    if path.suffix == '.png':  # a fifth of the size, hardly a visible difference
        image = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


def add_legend(figure: Figure, colours: Mapping[str, Sequence[int]], axis: Axes | None) -> None:
    """Name the colours of a figure, in free axes or, where there are none, below all axes."""
    entries = [
        Patch(facecolor=hex_colour(colour), edgecolor='grey', linewidth=0.5, label=name)
        for name, colour in colours.items()
    ]
    if axis is not None:
        columns = 1 + (len(entries) > 10)
        axis.legend(handles=entries, loc='center', frameon=False, ncols=columns)
    else:
        most = max(1, int(figure.get_figwidth() / 1.1))
        columns = -(-len(entries) // -(-len(entries) // most))
        figure.legend(handles=entries, loc='outside lower center', frameon=False, ncols=columns)


def add_scale(figure: Figure, axes: Sequence[Axes], image: ScalarMappable, label: str) -> None:
    """Draw the scale of the values of some axes at their right."""
    figure.colorbar(image, ax=list(axes), label=label, shrink=0.8, aspect=16, pad=0.01)


def add_scale_bar(axis: Axes, pixels: int) -> None:
    """Draw the length of some pixels at the lower left, in axes whose unit is the pixel."""
    bar = AnchoredSizeBar(
        axis.transData, pixels, f'{pixels} pixels', 'lower left', frameon=False, color='white'
    )
    axis.add_artist(bar)


def many_colours(number: int) -> np.ndarray:
    """Colours for any number of things, RGB uint8 (number, 3); neighbours have hues far apart."""
    i = np.arange(number)
    hsv = np.stack([i * GOLDEN_RATIO % 1, 0.65 + 0.35 * (i % 2), 1 - 0.2 * (i % 3)], axis=1)
    return (hsv_to_rgb(hsv) * 255).astype(np.uint8)
