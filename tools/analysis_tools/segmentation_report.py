"""Per-class IoU of a segmentor on the test data of its config, beside a constant answer, and pictures.

The constant answer gives every pixel the class that is commonest in the test labels: what a model
must beat to have learned anything. OUT receives report.md, report.json and predictions.png, which shows
pictures, predictions, ground truth and errors; predictions_2.png and so on where there are many.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import init_default_scope
from rich.progress import track

from spm_mm.engine import add_arguments, build_runner, load_from, read_config, run_tool
from spm_mm.visualization import (
    WRONG,
    class_colours,
    confusion_matrix,
    intersection_over_union,
    labels_of,
    occurring,
    picture_of_sample,
    save_panels,
    segmentation_panels,
)

ON_A_SHEET = 8


@dataclass(frozen=True)
class Report:
    """Intersections over unions, in percent; NaN for a class that is in neither of the two."""

    classes: list[str]
    iou: np.ndarray
    constant_iou: np.ndarray
    constant_class: str

    @property
    def miou(self) -> float:
        return float(np.nanmean(self.iou))

    @property
    def constant_miou(self) -> float:
        return float(np.nanmean(self.constant_iou))

    def markdown(self) -> str:
        rows = zip(self.classes, self.iou, self.constant_iou, strict=True)
        return '\n'.join(
            [
                f"| class | IoU | IoU of always '{self.constant_class}' |",
                '|---|---|---|',
                *(f'| {name} | {iou:.1f} | {constant:.1f} |' for name, iou, constant in rows),
                f'| **mean** | **{self.miou:.1f}** | **{self.constant_miou:.1f}** |',
            ]
        )

    def json(self) -> str:
        per_class = (None if np.isnan(iou) else float(iou) for iou in self.iou)
        return json.dumps(
            {
                'mIoU': self.miou,
                'constant_mIoU': self.constant_miou,
                'constant_class': self.constant_class,
                'IoU': dict(zip(self.classes, per_class, strict=True)),
            }
        )


def make_report(confusion: np.ndarray, classes: list[str]) -> Report:
    """Compare the confusion matrix of a model, rows the truth, with that of the constant answer."""
    commonest = int(confusion.sum(1).argmax())
    constant = np.zeros_like(confusion)
    constant[:, commonest] = confusion.sum(1)
    return Report(
        classes,
        intersection_over_union(confusion),
        intersection_over_union(constant),
        classes[commonest],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of MMSegmentation')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', metavar='OUT', type=Path, help='folder for the report')
    parser.add_argument(
        '--pictures', type=int, default=6, help='how many to draw, spread evenly (default 6)'
    )
    parser.add_argument('--title', help='of the pictures; default: the config and the checkpoint')
    add_arguments(parser, launcher=False)
    args = parser.parse_args()
    cfg = read_config(args)
    load_from(cfg, args.checkpoint)
    init_default_scope(cfg.default_scope)
    runner = build_runner(cfg, args.compile)
    runner.load_or_resume()
    loader = runner.build_dataloader(cfg.test_dataloader)
    colours = class_colours(loader.dataset.metainfo)
    confusion = np.zeros((len(colours),) * 2, np.int64)
    images = len(loader.dataset)
    shown = set(np.linspace(0, images - 1, min(args.pictures, images)).round().astype(int))
    drawn = []
    model = runner.model.eval()
    with torch.no_grad():
        samples = chain.from_iterable(map(model.test_step, track(loader, 'evaluating')))
        for index, sample in enumerate(samples):
            labels = labels_of(sample)
            confusion += confusion_matrix(*labels, len(colours))
            if index in shown:
                drawn.append((picture_of_sample(sample), *labels))
    report = make_report(confusion, [*colours])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'report.md').write_text(report.markdown() + '\n')
    (args.out / 'report.json').write_text(report.json() + '\n')
    print(report.markdown())
    title = args.title or f'{Path(args.config).stem}, {Path(args.checkpoint).name}'
    title += f': mIoU {report.miou:.1f} on {images} pictures'
    for start in range(0, len(drawn), ON_A_SHEET):
        number = f'_{start // ON_A_SHEET + 1}' if start else ''
        path = args.out / f'predictions{number}.png'
        draw_sheet(path, drawn[start : start + ON_A_SHEET], colours, title)
        print(path)


def draw_sheet(
    path: Path, drawn: Sequence[tuple[np.ndarray, ...]], colours: dict[str, tuple], title: str
) -> None:
    """Draw a column for each picture, prediction and ground truth."""
    columns = [segmentation_panels(*each, colours) for each in drawn]
    rows = list(zip(*columns, strict=True))
    names = [panel.caption for panel in columns[0][:-1]] + ['errors']
    plain = [[replace(panel, caption='') for panel in row] for row in rows[:-1]]
    legend = occurring(colours, *(labels for each in drawn for labels in each[1:]))
    legend |= {'wrong': WRONG}
    save_panels(path, [*plain, rows[-1]], title, legend, rows=names, side=2)


if __name__ == '__main__':
    run_tool(main)
