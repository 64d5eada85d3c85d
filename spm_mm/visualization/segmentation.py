"""What a segmentor says of a picture, and where it is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor, nn

from spm_mm.visualization.figures import Panel
from spm_mm.visualization.style import WRONG, many_colours

__all__ = [
    'class_colours',
    'confusion_matrix',
    'intersection_over_union',
    'labels_of',
    'occurring',
    'paint_errors',
    'paint_labels',
    'predict_labels',
    'segmentation_panels',
]

SHARP = 384
"""Pixels of the longer side that pictures are enlarged to, so that lines are thin."""
Colours = Mapping[str, Sequence[int]]


def predict_labels(model: nn.Module, image: Tensor) -> np.ndarray:
    """Class of each pixel, by a segmentor of MMSegmentation in one piece.

    Args:
        model: Segmentor in evaluation mode.
        image: Normalised image (1, 3, H, W).

    Returns:
        Integers (H, W).
    """
    with torch.no_grad():
        logits = model.encode_decode(image, [dict(img_shape=tuple(image.shape[2:]))])
    head = model.decode_head
    if logits.shape[1] == 1:  # two classes told by one number
        return (logits.sigmoid() > head.threshold)[0, 0].long().cpu().numpy()
    return logits.argmax(dim=1)[0].cpu().numpy()


def labels_of(sample: Any) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and ground truth (H, W) of a ``SegDataSample`` that a segmentor returns."""
    return tuple(part.data[0].cpu().numpy() for part in (sample.pred_sem_seg, sample.gt_sem_seg))


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by ground truth (rows) and prediction (columns).

    Args:
        prediction: Class of every pixel (H, W), integers.
        truth: Likewise; pixels that are no class, as 255, do not count.
        classes: Number of classes.

    Returns:
        Integers (classes, classes).
    """
    counted = truth < classes
    pairs = truth[counted].astype(np.int64) * classes + prediction[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def intersection_over_union(confusion: np.ndarray) -> np.ndarray:
    """IoU of each class in percent, NaN where it is nowhere, from :func:`confusion_matrix`."""
    hits = np.diag(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return 100 * np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def class_colours(source: Config | Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """RGB colour of each class, by name and in order.

    Args:
        source: ``metainfo`` of a dataset, or a config of MMSegmentation, of which the test data counts.
            Of a config no data is read.
    """
    if isinstance(source, Config):
        init_default_scope(source.get('default_scope', 'spm_mm'))
        source = DATASETS.build(dict(source.test_dataloader.dataset, lazy_init=True)).metainfo
    return dict(zip(source['classes'], map(tuple, source['palette']), strict=True))


def occurring(colours: Colours, *labels: np.ndarray) -> dict[str, Sequence[int]]:
    """The classes that occur in some label pictures, with their colours, for a legend."""
    found = set().union(*(np.unique(each).tolist() for each in labels))
    return {name: colour for i, (name, colour) in enumerate(colours.items()) if i in found}


def paint_labels(
    picture: np.ndarray,
    labels: np.ndarray,
    colours: Sequence[Sequence[int]] | None = None,
    share: float = 0.6,
) -> np.ndarray:
    """Lay a colour for each label over a picture, and white lines where labels meet.

    Args:
        picture: RGB picture (H, W, 3), uint8.
        labels: Integers from 0, (h, w), stretched over the picture.
        colours: RGB colour of each label, 0 to 255. Labels without one, as 255 for what has no class,
            show the picture alone. Default: a colour for every label, those of neighbours far apart.
        share: Share of the colour, 0 to 1; the rest is the picture in grey.

    Returns:
        RGB picture, uint8, enlarged where the picture is small.
    """
    colours = many_colours(int(labels.max()) + 1) if colours is None else np.array(colours)
    large, labels = _enlarge(picture, labels)
    known = labels < len(colours)
    painted = np.asarray(colours, np.uint8)[np.where(known, labels, 0)]
    painted = cv2.addWeighted(_grey(large), 1 - share, painted, share, 0)
    painted = np.where(known[..., None], painted, large)
    painted[1:][labels[1:] != labels[:-1]] = 255
    painted[:, 1:][labels[:, 1:] != labels[:, :-1]] = 255
    return painted


def paint_errors(picture: np.ndarray, truth: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Show where a segmentation is wrong, over a pale picture.

    Args:
        picture: RGB picture (H, W, 3), uint8.
        truth: Classes (H, W); 255 has none and is white.
        wrong: Whether each pixel is wrong (H, W).

    Returns:
        RGB picture, uint8, enlarged where the picture is small.
    """
    large, states = _enlarge(picture, np.where(truth == 255, 2, wrong.astype(int)))
    pale = cv2.addWeighted(_grey(large), 0.5, np.full_like(large, 255), 0.5, 0)
    pale[states == 1] = WRONG
    pale[states == 2] = 255
    return pale


def segmentation_panels(
    picture: np.ndarray, prediction: np.ndarray, truth: np.ndarray, colours: Colours
) -> list[Panel]:
    """Picture, prediction, ground truth and errors of a segmentation.

    Args:
        picture: RGB picture (H, W, 3), uint8.
        prediction: Class of every pixel (H, W), integers.
        truth: Likewise; what is no class, as 255, does not count.
        colours: RGB colour of each class, by name and in order; see :func:`class_colours`.
    """
    counted = truth < len(colours)
    wrong = counted & (prediction != truth)
    share = wrong.sum() / max(counted.sum(), 1)
    palette = [*colours.values()]
    return [
        Panel(_enlarge(picture, truth)[0], 'picture'),
        Panel(paint_labels(picture, prediction, palette), 'prediction'),
        Panel(paint_labels(picture, truth, palette), 'ground truth'),
        Panel(paint_errors(picture, np.where(counted, truth, 255), wrong), f'wrong: {share:.1%}'),
    ]


def _grey(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _enlarge(picture: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture of a whole number times the size, and labels of that size."""
    factor = max(1, -(-SHARP // max(picture.shape[:2])))
    large = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    rows, columns = (
        np.arange(side) * cells // side
        for side, cells in zip(large.shape[:2], labels.shape, strict=True)
    )
    return large, labels[rows[:, None], columns]
