"""Predictions of all runs of a comparison on the same images of the validation data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, init_default_scope
from mmengine.runner import find_latest_checkpoint

from spm_mm.compare.plan import Plan
from spm_mm.compare.record import Cell, read_json, write_json
from spm_mm.compat import load_checkpoint
from spm_mm.visualization import (
    WRONG,
    class_colours,
    hex_colour,
    labels_of,
    occurring,
    picture_of_sample,
    segmentation_panels,
)

__all__ = ['Picture', 'draw_predictions']

WIDTH = 480


@dataclass
class Picture:
    """JPEG files that belong to one image: its ground truth, and predictions by seed and column.

    ``legend`` holds the classes of segmentations and their colours, ``#rrggbb``.
    """

    truth: Path | None = None
    legend: dict[str, str] = field(default_factory=dict)
    predictions: dict[int, dict[str, Path]] = field(default_factory=dict)


def draw_predictions(plan: Plan, count: int) -> list[Picture]:
    """Draw the predictions of every finished run.

    Of segmentations, the prediction stands above its errors, in the suite's style. All else is drawn by
    the framework's own visualizer.

    The pictures are kept in the run's folder, and drawn once.

    Args:
        plan: Of the comparison.
        count: Images, spread evenly over the validation data.
    """
    pictures = [Picture() for _ in range(count)]
    for cell in plan.cells:
        checkpoint = find_latest_checkpoint(str(cell.folder)) if cell.finished else None
        if checkpoint is None:
            continue
        folder = cell.folder / 'pictures'
        truths = [plan.folder / 'pictures' / f'{i}.jpg' for i in range(count)]
        drawn = [folder / f'{i}.jpg' for i in range(count)]
        if not all(path.exists() for path in (*drawn, *truths)):
            _draw(cell, checkpoint, drawn, truths)
        for picture, truth, path in zip(pictures, truths, drawn, strict=True):
            picture.truth = truth if truth.exists() else None
            picture.legend = read_json(truth.with_suffix('.json')) or {}
            if path.exists():
                picture.predictions.setdefault(cell.seed, {})[cell.variant] = path
    return [picture for picture in pictures if picture.predictions]


def _draw(cell: Cell, checkpoint: str, drawn: Sequence[Path], truths: Sequence[Path]) -> None:
    cfg = Config.fromfile(cell.config)
    scope = cfg.get('default_scope', 'spm_mm')
    init_default_scope(scope)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.load_state_dict(load_checkpoint(checkpoint)['state_dict'])
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = model.to(device).eval()
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    model.dataset_meta = dataset.metainfo
    visualizer = VISUALIZERS.build(
        {**cfg.visualizer, 'vis_backends': None, 'name': str(cell.folder)}
    )
    visualizer.dataset_meta = dataset.metainfo
    colours = class_colours(dataset.metainfo) if scope == 'mmseg' else {}
    collate = default_collate if scope == 'mmpretrain' else pseudo_collate
    for path in (drawn[0], truths[0]):
        path.parent.mkdir(exist_ok=True)
    places = np.linspace(0, len(dataset) - 1, len(drawn)).round().astype(int)
    for index, path, truth in zip(places.tolist(), drawn, truths, strict=True):
        with torch.no_grad():
            sample = model.test_step(collate([dataset[index]]))[0].cpu()
        image = picture_of_sample(sample)
        if image is None:
            continue
        if 'pred_sem_seg' in sample:
            labels = labels_of(sample)
            panels = [panel.picture for panel in segmentation_panels(image, *labels, colours)]
            picture, prediction, ground_truth, errors = panels
            _write(path, np.vstack([prediction, errors]))
            _write(truth, np.vstack([picture, ground_truth]))
            legend = occurring(colours, *labels) | {'wrong': WRONG}
            table = truth.with_suffix('.json')
            known = {name: hex_colour(colour) for name, colour in legend.items()}
            write_json(table, (read_json(table) or {}) | known)
            continue
        _show(visualizer, image, sample, path, draw_gt=False, draw_pred=True)
        if not truth.exists():
            _show(visualizer, image, sample, truth, draw_gt=True, draw_pred=False)


def _show(visualizer: Any, image: np.ndarray, sample: Any, path: Path, **what: Any) -> None:
    if hasattr(visualizer, 'visualize_cls'):
        image = visualizer.visualize_cls(image, sample, **what)
    else:
        # It writes a file, or hands the picture to its backends, of which there are none.
        visualizer.add_datasample(path.stem, image, sample, show=False, out_file=str(path), **what)
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    _write(path, image)


def _write(path: Path, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    if width > WIDTH:
        size = (WIDTH, round(height * WIDTH / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
