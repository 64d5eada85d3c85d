"""Images per second that one worker of a data loader makes, for the training pipelines of configs.

CONFIG is a config, or a file of configs/*/_base_/datasets; without any, all of those files that have a
training pipeline are taken.
The pipelines run on the composed scenes (tools/dataset_converters/compose_scenes.py), whose
pictures are small: --side S scales them up first, in memory, so that a pipeline meets pictures of
the size of those it is made for. Reading and decoding stay those of the small files.

With --rate, the images per second that a GPU trains, the workers that this takes are printed beside
num_workers of the config.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from spm_mm.engine import run_tool
from spm_mm.errors import UserError

ROOT = Path(__file__).resolve().parents[2] / 'configs'


def load(path: Path) -> tuple[str, Config, list[dict] | None]:
    """The framework of a config, told by its folder, the config, and its training pipeline or None."""
    framework = next((p.name for p in path.resolve().parents if p.name.startswith('mm')), None)
    if not path.is_file() or framework is None:
        raise UserError(f'{path} is no config in a folder of a framework')
    cfg = Config.fromfile(path)
    if 'train_dataloader' not in cfg:
        raise UserError(f'{path} has no train_dataloader')
    return framework, cfg, innermost(cfg.train_dataloader.dataset).get('pipeline')


def innermost(dataset: dict) -> dict:
    """The data set inside wrappers such as RepeatDataset, the first one of several."""
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def images_per_second(framework: str, pipeline: list[dict], count: int, repeat: int) -> list[float]:
    """Rate of each of ``repeat`` rounds over ``count`` scenes, in this process, after one more."""
    init_default_scope(framework)
    scenes = Config.fromfile(ROOT / framework / '_base_/datasets/scenes.py')
    dataset = copy.deepcopy(dict(scenes.train_dataloader.dataset))
    root = Path(dataset['data_root'])
    if not root.is_dir():
        raise UserError(
            f'{root} does not exist: run tools/dataset_converters/compose_scenes.py, or set SCENES_ROOT'
        )
    built = DATASETS.build(dataset | dict(pipeline=pipeline, _scope_=framework))
    rates = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        for i in range(count):
            if built[i % len(built)] is None:
                raise UserError(f'the pipeline drops scene {i % len(built)}')
        rates.append(count / (time.perf_counter() - start))
    return rates[1:]


def enlarged(pipeline: Sequence[dict], framework: str, side: int | None) -> list[dict]:
    """The pipeline with pictures scaled to ``side`` behind what loads them."""
    steps = [copy.deepcopy(dict(step)) for step in pipeline]
    if side is None:
        return steps
    loading = max(i for i, step in enumerate(steps) if step['type'].startswith('Load'))
    resize = dict(type='Resize', scale=(side, side))
    if framework != 'mmpretrain':
        resize['keep_ratio'] = False
    return [*steps[: loading + 1], resize, *steps[loading + 1 :]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='*', type=Path, metavar='CONFIG')
    parser.add_argument('--rate', type=float, help='images per second that a GPU takes')
    parser.add_argument('--side', type=int, help='side in pixels to which scenes are scaled first')
    parser.add_argument('--count', type=int, default=64, help='images in a round, default 64')
    parser.add_argument('--repeat', type=int, default=5, help='rounds that count, default 5')
    args = parser.parse_args(argv)
    if min(args.count, args.repeat, args.side or 1) < 1 or (args.rate or 1) <= 0:
        raise UserError('--count, --repeat, --side and --rate must be positive')
    # As in a worker of a data loader.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    table = Table('pipeline of', 'images/s of a worker', 'num_workers', box=MARKDOWN)
    if args.rate:
        table.add_column(f'workers for {args.rate:g}/s')
    for path in args.configs or sorted(ROOT.glob('*/_base_/datasets/*.py')):
        framework, cfg, pipeline = load(path)
        if pipeline is None:
            if not args.configs:
                continue
            raise UserError(
                f'{path.stem} has no training pipeline: name a config that builds on it and sets one'
            )
        pipeline = enlarged(pipeline, framework, args.side)
        rates = images_per_second(framework, pipeline, args.count, args.repeat)
        median = statistics.median(rates)
        row = [
            f'{framework}/{path.stem}',
            f'{median:.1f} \\[{min(rates):.1f}-{max(rates):.1f}]',
            str(cfg.train_dataloader.num_workers),
        ]
        if args.rate:
            row.append(f'{-(-args.rate // median):.0f}')
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == '__main__':
    run_tool(main)
