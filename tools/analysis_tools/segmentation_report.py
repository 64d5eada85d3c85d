"""Per-class IoU of a segmentor on the test data of its config, beside a constant answer, and pictures.

The constant answer gives every pixel the class that is commonest in the test labels: what a model
must beat to have learned anything. OUT receives report.md, report.json and the pictures.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import init_default_scope
from rich.progress import track

from spm_mm.engine import add_arguments, build_runner, load_from, read_config, run_tool
from spm_mm.visualization import side_by_side


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


def intersection_over_union(confusion: np.ndarray) -> np.ndarray:
    """IoU in percent from a confusion matrix, rows the truth."""
    hits = np.diag(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return 100 * np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


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
        '--pictures', type=int, default=8, help='how many images to draw (default 8)'
    )
    add_arguments(parser, launcher=False)
    args = parser.parse_args()
    cfg = read_config(args)
    load_from(cfg, args.checkpoint)
    init_default_scope(cfg.default_scope)
    runner = build_runner(cfg, args.compile)
    runner.load_or_resume()
    loader = runner.build_dataloader(cfg.test_dataloader)
    classes = list(loader.dataset.metainfo['classes'])
    palette = loader.dataset.metainfo['palette']
    args.out.mkdir(parents=True, exist_ok=True)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    drawn = []
    model = runner.model.eval()
    for batch in track(loader, 'evaluating'):
        with torch.no_grad():
            samples = model.test_step(batch)
        for sample in samples:
            predicted = sample.pred_sem_seg.data[0].cpu().numpy()
            truth = sample.gt_sem_seg.data[0].cpu().numpy()
            known = truth < len(classes)
            pairs = truth[known].astype(np.int64) * len(classes) + predicted[known]
            confusion += np.bincount(pairs, minlength=confusion.size).reshape(confusion.shape)
            if len(drawn) == args.pictures:
                continue
            image = cv2.resize(cv2.imread(sample.img_path), truth.shape[::-1])
            path = args.out / f'{Path(sample.img_path).stem}.png'
            cv2.imwrite(str(path), side_by_side(image, truth, predicted, palette))
            drawn.append(path)
    report = make_report(confusion, classes)
    (args.out / 'report.md').write_text(report.markdown() + '\n')
    (args.out / 'report.json').write_text(report.json() + '\n')
    print(report.markdown())
    for path in drawn:
        print(path)


if __name__ == '__main__':
    run_tool(main)
