"""Figures of panels with captions, and charts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.patheffects import Normal, Stroke

from spm_mm.visualization.style import (
    MARK,
    VALUES,
    add_legend,
    add_scale,
    add_scale_bar,
    hex_colour,
    new_figure,
)

__all__ = ['Panel', 'common_limits', 'save_chart', 'save_panels']


@dataclass(frozen=True)
class Panel:
    """One picture of a figure: RGB (H, W, 3) or values (H, W), a caption, and what is laid over it.

    Attributes:
        picture: RGB picture, uint8, or values that get colours.
        caption: Text above it, with the number that goes with the picture.
        overlay: Values (h, w), stretched over the picture, which is drawn in grey.
        mark: A point x, y from 0 to 1, drawn as a star.
        points: Points x, y (n, 2) from 0 to 1, drawn as dots; those outside are cut off.
        frame: Left, top, right and bottom from 0 to 1, drawn as a white rectangle.
        limits: Values of the lowest and the highest colour. Default: those of the panel itself. Panels
            that are to be compared need the same ones, see :func:`common_limits`.
        colours: Name of a colour map of matplotlib.
        scale: What the values are. Panels of a row that have it share one scale, drawn at the right.
        scale_bar: Length of a bar in pixels of the picture; 0 for none.
    """

    picture: np.ndarray
    caption: str = ''
    overlay: np.ndarray | None = None
    mark: tuple[float, float] | None = None
    points: np.ndarray | None = None
    frame: tuple[float, float, float, float] | None = None
    limits: tuple[float, float] | None = None
    colours: str = VALUES
    scale: str = ''
    scale_bar: int = 0


def common_limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """One scale for several panels: from 0 to the largest of all values."""
    return 0.0, max(max(float(array.max()) for array in values), 1e-30)


def save_panels(
    path: Path,
    panels: Sequence[Sequence[Panel | None]],
    title: str,
    legend: Mapping[str, Sequence[int]] | None = None,
    rows: Sequence[str] = (),
    side: float | None = None,
) -> None:
    """Write rows of panels to a PNG or JPEG file.

    Args:
        path: File to write.
        panels: Rows of panels; None leaves a place free.
        title: Text above them.
        legend: Colours, RGB from 0 to 255, by what they mean. The legend stands in the first free
            place, else below the panels.
        rows: Text at the left of each row. Default: none.
        side: Width of a panel in inches. Default: 3 at most, less where there are many.
    """
    count, columns = len(panels), max(map(len, panels))
    # Many panels are drawn smaller, or the figure outgrows what pages and viewers show.
    side = side or min(3, max(1.2, min(10 / columns, 60 / count)))
    shapes = [panel.picture.shape for row in panels for panel in row if panel]
    aspect = max(height / width for height, width, *_ in shapes)
    lines = sum(max(len(p.caption.splitlines()) for p in row if p) for row in panels)
    height = side * aspect * count + 0.16 * lines + 0.08 * count
    height += 0.2 * (title.count('\n') + 1) + (0.4 if legend else 0)
    width = side * columns + (0.8 if any(p and p.scale for row in panels for p in row) else 0)
    with new_figure(path, width, height, layout='compressed') as figure:
        axes = figure.subplots(count, columns, squeeze=False)
        figure.suptitle(title)
        free = []
        for row, line in zip(axes, panels, strict=True):
            scaled: dict[str, ScalarMappable] = {}
            for axis, panel in zip(row, [*line, *[None] * (columns - len(line))], strict=True):
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                if panel is None:
                    axis.set_axis_off()
                    free.append(axis)
                    continue
                image = _draw(axis, panel)
                axis.set_title(panel.caption, fontsize=9 * min(1, side / 2))
                if panel.scale:
                    scaled[panel.scale] = image
            for scale, image in scaled.items():
                add_scale(figure, row, image, scale)
        for axis, text in zip(axes[:, 0], rows, strict=False):
            axis.set_ylabel(text)
        if legend:
            add_legend(figure, legend, free[0] if free else None)


def _draw(axis: Axes, panel: Panel) -> ScalarMappable:
    height, width = panel.picture.shape[:2]
    extent = (0, width, height, 0)
    low, high = panel.limits or (None, None)
    shared = dict(cmap=panel.colours, extent=extent, vmin=low, vmax=high)
    if panel.overlay is None:
        kind = 'auto' if panel.picture.ndim == 3 else 'nearest'
        image = axis.imshow(panel.picture, interpolation=kind, **shared)
    else:
        grey = cv2.cvtColor(panel.picture, cv2.COLOR_RGB2GRAY)
        axis.imshow(grey, cmap='gray', extent=extent, vmin=0, vmax=255)
        image = axis.imshow(panel.overlay, alpha=0.6, **shared)
    outline = [Stroke(linewidth=3, foreground='black'), Normal()]
    if panel.frame is not None:
        left, right = (share * width for share in panel.frame[::2])
        top, bottom = (share * height for share in panel.frame[1::2])
        x, y = [left, right, right, left, left], [top, top, bottom, bottom, top]
        axis.plot(x, y, 'white', lw=1.5, path_effects=outline)
    dots = dict(mfc=hex_colour(MARK), mec='white', ls='none')
    if panel.points is not None:
        axis.plot(*(panel.points * (width, height)).T, marker='o', ms=4, mew=0.5, **dots)
    if panel.mark is not None:
        x, y = panel.mark[0] * width, panel.mark[1] * height
        axis.plot(x, y, marker='*', ms=12, mew=0.8, **dots)
    if panel.scale_bar:
        add_scale_bar(axis, panel.scale_bar)
    axis.set(xlim=extent[:2], ylim=extent[2:])
    return image


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
    with new_figure(path, *size) as figure:
        axes = figure.subplots()
        draw(axes)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.grid(which='both')
        axes.set_axisbelow(True)
        figure.suptitle(title)
