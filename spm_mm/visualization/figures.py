"""Figures in PNG: panels with captions, of the suite's own style."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ['Panel', 'common_limits', 'save_chart', 'save_panels']


@dataclass(frozen=True)
class Panel:
    """One picture of a figure: RGB (H, W, 3) or values (H, W), a caption, and what is laid over it.

    Attributes:
        picture: RGB picture, uint8, or values that get colours.
        caption: Text above it, with the number that goes with the picture.
        overlay: Values (h, w), stretched over the picture, half transparent.
        mark: A point x, y from 0 to 1, drawn as a red star.
        frame: Left, top, right and bottom from 0 to 1, drawn as a green rectangle.
        limits: Values of the lowest and the highest colour. Default: those of the panel itself. Panels
            that are to be compared need the same ones, see :func:`common_limits`.
        colours: Name of a colour map of matplotlib.
    """

    picture: np.ndarray
    caption: str
    overlay: np.ndarray | None = None
    mark: tuple[float, float] | None = None
    frame: tuple[float, float, float, float] | None = None
    limits: tuple[float, float] | None = None
    colours: str = 'viridis'


def common_limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """One scale for several panels: from 0 to the largest of all values."""
    return 0.0, max(max(float(array.max()) for array in values), 1e-30)


def save_panels(path: Path, panels: Sequence[Sequence[Panel]], title: str) -> None:
    """Write rows of panels to a PNG file."""
    rows, columns = len(panels), max(map(len, panels))
    # Many panels are drawn smaller, or the figure outgrows what viewers open.
    side = min(3, max(1.2, 60 / max(rows, columns)))
    figure = Figure(
        figsize=(side * columns, (side + 0.25) * rows + 0.6), dpi=120, layout='constrained'
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, line in zip(axes, panels, strict=True):
        for axis, panel in zip(row, line, strict=False):
            extent = (0, panel.picture.shape[1], panel.picture.shape[0], 0)
            low, high = panel.limits or (None, None)
            shared = dict(cmap=panel.colours, extent=extent, vmin=low, vmax=high)
            axis.imshow(panel.picture, interpolation='nearest', **shared)
            if panel.overlay is not None:
                axis.imshow(panel.overlay, alpha=0.65, **shared)
            if panel.mark is not None:
                x, y = panel.mark[0] * extent[1], panel.mark[1] * extent[2]
                axis.plot(x, y, '*', ms=11, mfc='red', mec='white', mew=0.8)
            if panel.frame is not None:
                left, right = (share * extent[1] for share in panel.frame[::2])
                top, bottom = (share * extent[2] for share in panel.frame[1::2])
                axis.plot(
                    [left, right, right, left, left],
                    [top, top, bottom, bottom, top],
                    'lime',
                    lw=1.5,
                )
            axis.set_title(panel.caption, fontsize=9 * min(1, side / 2.2))
            axis.set_xlim(extent[0], extent[1])
            axis.set_ylim(extent[2], extent[3])
        for axis in row:
            axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format='png')


def save_chart(
    path: Path,
    draw: Callable[[Axes], None],
    title: str,
    labels: tuple[str, str],
    size: tuple[float, float] = (6.5, 4.5),
) -> None:
    """Write a chart to a PNG file.

    Args:
        path: File to write.
        draw: Called with the axes, draws the chart.
        title: Text above it.
        labels: Text of the x and of the y axis.
        size: Width and height in inches.
    """
    figure = Figure(figsize=size, dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw(axes)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format='png')
