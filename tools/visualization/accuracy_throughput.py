"""Top-1 accuracy against throughput of several classifiers (SG-Former, Figure 6).

The accuracy is the printed one of configs/papers.yaml; the throughput is measured here, at the size
of the test crop. OUT.csv beside the picture holds the numbers, so compare only what one machine
measured.
"""

import argparse
import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from mmengine.config import Config
from mmengine.logging import MMLogger
from rich.progress import track
from torch.utils.benchmark import Timer

from spm_mm.engine import default_shape, load_papers, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import load_model, save_chart

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+', type=Path, help='configs of configs/mmpretrain')
    parser.add_argument('out', metavar='OUT', type=Path, help='file to write; ends in .png')
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--device', default=default, help=f'default: {default}')
    parser.add_argument('--batch-size', type=int, default=64, help='images at once; default: 64')
    parser.add_argument('--seconds', type=float, default=3.0, help='time for each model')
    parser.add_argument('--paper', help='whose printed accuracy is taken; default: the first')
    args = parser.parse_args(argv)
    if args.out.suffix != '.png':
        raise UserError(f'OUT must end in .png, got {args.out}')
    if args.batch_size < 1:
        raise UserError(f'--batch-size must be at least 1, got {args.batch_size}')
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    printed = printed_accuracy(args.paper)
    names = [f'{path.parent.name}/{path.stem}' for path in args.configs]
    for name in names:
        if name not in printed:
            raise UserError(f'{name} has no printed top-1 accuracy in configs/papers.yaml')
    points = []
    for name, path in zip(track(names, 'models'), args.configs, strict=True):
        cfg = Config.fromfile(path)
        rate = throughput(cfg, args.device, args.batch_size, args.seconds)
        points.append((name, rate, printed[name]))
    table = args.out.with_suffix('.csv')
    table.parent.mkdir(parents=True, exist_ok=True)
    with open(table, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['config', f'images/s ({args.device}, {args.batch_size})', 'top1'])
        writer.writerows((name, f'{rate:.2f}', top1) for name, rate, top1 in points)

    def draw(axes: Axes) -> None:
        for name, rate, top1 in points:
            label = Path(name).name.removesuffix('_in1k')
            axes.plot(rate, top1, 'o')
            axes.annotate(label, (rate, top1), (4, 3), textcoords='offset points')

    title = f'{device_name(args.device)}, {args.batch_size} images at once'
    save_chart(args.out, draw, title, ('images per second', 'top-1 accuracy as printed (%)'))
    for name, rate, top1 in points:
        print(f'{name}: {rate:.1f} images/s, {top1} %')
    print(f'wrote {args.out} and {table}')


def printed_accuracy(paper: str | None) -> dict[str, float]:
    """Top-1 accuracy by config, that of the paper or else the first printed one."""
    papers, rows, _ = load_papers(CONFIGS / 'papers.yaml')
    if paper is not None and paper not in papers:
        raise UserError(f'--paper must be one of {[*papers]}, got {paper!r}')
    found: dict[str, float] = {}
    for row in sorted(rows, key=lambda row: row.paper != paper):
        if 'top1' in row.metrics:
            found.setdefault(row.config, row.metrics['top1'])
    return found


def throughput(cfg: Config, device: str, batch_size: int, seconds: float) -> float:
    """Images per second of a model, median of runs after a warm-up run."""
    model = load_model(cfg, None, device)
    images = torch.randn(batch_size, 3, *default_shape(cfg), device=device)
    run = 'with torch.inference_mode(): model.head(model.extract_feat(images))'
    timer = Timer(run, 'import torch', globals=dict(model=model, images=images))
    timer.timeit(1)
    return batch_size / timer.blocked_autorange(min_run_time=seconds).median


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith('cuda') else device


if __name__ == '__main__':
    run_tool(main)
