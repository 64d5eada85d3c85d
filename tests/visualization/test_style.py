"""One style for every picture: colours that can be told apart, segmentations, and figures."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from spm_mm.visualization import (
    PALETTE,
    WRONG,
    Panel,
    class_colours,
    confusion_matrix,
    intersection_over_union,
    many_colours,
    occurring,
    paint_labels,
    save_panels,
    segmentation_panels,
)

# Linear RGB as protanopes and deuteranopes see it (Machado et al., 2009, severity 1).
VISIONS = np.array([
    np.eye(3),
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
     [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
     [-0.011820, 0.042940, 0.968881]],
])  # fmt: skip


def least_distance(colours: np.ndarray) -> float:
    """Least distance of two colours in CIELAB, over all ways of seeing them."""
    c = np.asarray(colours) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.einsum('vij,nj->vni', VISIONS, linear), 0, 1)
    lab = cv2.cvtColor(seen.astype(np.float32), cv2.COLOR_LRGB2Lab)
    distances = np.linalg.norm(lab[:, :, None] - lab[:, None], axis=-1)
    return float(distances[:, ~np.eye(len(c), dtype=bool)].min())


def test_distances_of_colours() -> None:
    """Black and white are 100 apart; red and green of like lightness come close for some."""
    assert least_distance([(0, 0, 0), (255, 255, 255)]) == pytest.approx(100, abs=0.1)
    assert least_distance([(213, 94, 0), (140, 130, 0)]) < 15


def test_the_palette_is_told_apart() -> None:
    assert least_distance(PALETTE) > 17


@pytest.mark.parametrize('name', ['fpn_pvt_tiny_scenes', 'fpn_pvt_tiny_camvid'])
def test_classes_of_the_configs_are_told_apart(root, name: str) -> None:
    """The colours come from the config alone: no data is read."""
    cfg = Config.fromfile(root / 'configs/mmseg' / f'{name}.py')
    colours = class_colours(cfg)
    assert tuple(colours) == cfg.metainfo.classes
    assert set(colours.values()) <= set(PALETTE)
    assert len(set(colours.values())) == len(colours)


def test_any_number_of_colours() -> None:
    colours = many_colours(200)
    assert colours.shape == (200, 3)
    assert len(np.unique(colours, axis=0)) == 200
    assert least_distance(colours[:2]) > 15


def test_labels_are_painted() -> None:
    picture = np.full((40, 60, 3), 100, np.uint8)
    labels = np.array([[0, 0, 1], [255, 1, 0]])
    painted = paint_labels(picture, labels, [(200, 0, 0), (0, 0, 200)])
    factor = painted.shape[0] // 40
    assert painted.shape == (40 * factor, 60 * factor, 3)
    cells = painted[10 * factor :: 20 * factor, 10 * factor :: 20 * factor].tolist()
    red, blue = [160, 40, 40], [40, 40, 160]
    assert cells == [[red, red, blue], [[100] * 3, blue, red]]
    assert (painted[20 * factor, :5] == 255).all()  # a line where labels meet
    assert (painted[: 20 * factor - 1, 20 * factor] == red).all()
    assert len(np.unique(paint_labels(picture, np.array([[0, 1, 2]])).reshape(-1, 3), axis=0)) == 4


def test_panels_of_a_segmentation() -> None:
    """One of four pixels has no class, one of the others is wrong."""
    picture = np.full((2, 2, 3), 80, np.uint8)
    truth, prediction = np.array([[0, 1], [255, 1]]), np.array([[0, 0], [1, 1]])
    colours = {'cat': (200, 0, 0), 'owl': (0, 200, 0), 'hen': (0, 0, 200)}
    panels = segmentation_panels(picture, prediction, truth, colours)
    captions = [panel.caption for panel in panels]
    assert captions == ['picture', 'prediction', 'ground truth', 'wrong: 33.3%']
    quarter = panels[-1].picture.shape[0] // 4
    errors = panels[-1].picture[quarter :: 2 * quarter, quarter :: 2 * quarter]
    assert errors[0, 1].tolist() == list(WRONG)
    assert errors[1, 0].tolist() == [255] * 3
    assert errors[0, 0].tolist() == errors[1, 1].tolist() == [168] * 3
    assert list(occurring(colours, truth, prediction)) == ['cat', 'owl']
    confusion = confusion_matrix(prediction, truth, 3)
    assert confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(intersection_over_union(confusion), [50, 50, np.nan])


def test_figure_with_all_parts(tmp_path) -> None:
    """A legend in the free place, a scale, and what is laid over a picture."""
    picture = np.full((48, 96, 3), 200, np.uint8)
    values = np.linspace(0, 1, 32).reshape(4, 8)
    rows = [
        [Panel(picture, 'picture', mark=(0.5, 0.5), frame=(0.1, 0.1, 0.6, 0.9)), None],
        [
            Panel(picture, 'points', points=np.array([[0.2, 0.2], [9, 9]]), scale_bar=24),
            Panel(picture, 'over it', values, limits=(0, 1), scale='share'),
        ],
    ]
    sizes = {}
    for name, options in (
        ('plain.png', {}),
        ('full.png', dict(legend={'cat': (200, 0, 0)}, rows=['first', 'second'])),
        ('full.jpg', {}),
    ):
        save_panels(tmp_path / 'new' / name, rows, 'title', **options)
        sizes[name] = cv2.imread(str(tmp_path / 'new' / name))

    def red(name: str) -> int:
        return (np.abs(sizes[name].astype(int) - (0, 0, 200)).max(axis=2) < 16).sum()

    assert red('full.png') > 50  # the legend
    assert red('plain.png') == 0
    assert sizes['plain.png'].shape == sizes['full.jpg'].shape
    assert len(np.unique(sizes['full.png'].reshape(-1, 3), axis=0)) <= 256
