"""Figures in PNG: panels with captions, of the suite's own style."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ['Panel', 'save_panels']


@dataclass(frozen=True)
class Panel:
    """One picture of a figure: RGB (H, W, 3) or values (H, W), a caption, and what is laid over it.

    ``overlay`` (h, w) is stretched over the picture, half transparent; ``mark`` is a point x, y from 0
    to 1.
    """

    picture: np.ndarray
    caption: str
    overlay: np.ndarray | None = None
    mark: tuple[float, float] | None = None


def save_panels(path: Path, panels: Sequence[Sequence[Panel]], title: str) -> None:
    """Write rows of panels to a PNG file; values get the same colours, dark blue low, yellow high."""
    rows, columns = len(panels), max(map(len, panels))
    figure = Figure(figsize=(3 * columns, 3.2 * rows + 0.4), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, line in zip(axes, panels, strict=True):
        for axis, panel in zip(row, line, strict=False):
            extent = (0, panel.picture.shape[1], panel.picture.shape[0], 0)
            axis.imshow(panel.picture, cmap='viridis', extent=extent, interpolation='nearest')
            if panel.overlay is not None:
                axis.imshow(panel.overlay, cmap='viridis', extent=extent, alpha=0.65)
            if panel.mark is not None:
                x, y = panel.mark[0] * extent[1], panel.mark[1] * extent[2]
                axis.plot(x, y, 'o', ms=9, mfc='none', mec='red', mew=2)
            axis.set_title(panel.caption, fontsize=9)
        for axis in row:
            axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format='png')
