"""How the cost of backbones grows with the image: MACs, time and memory over the number of pixels.

Prints a table for square images and the slope of each log-log line: 1 is linear in the number of
pixels, 2 is that of plain attention. On a GPU, memory is the peak of what the forward pass allocates;
on a CPU, where that cannot be told, it is left out.

With --tokens the clustering of HAFA is timed alone, of so many tokens of 512 channels to a quarter of
them, beside the memory that its matrices of distances take.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from spm_mm.engine import measure, run_tool
from spm_mm.errors import UserError
from spm_mm.ops import dpc_knn, dpc_knn_bytes

COLUMNS = ('GMACs', 'ms', 'MiB')


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the least-squares line of log(value) over log(pixels)."""
    x = [math.log(side * side) for side in sizes]
    y = [math.log(value) for value in values]
    mean_x, mean_y = statistics.mean(x), statistics.mean(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def backbone_macs(cfg: Config, side: int) -> float:
    """Multiply-accumulates of the backbone alone, in billions."""
    cfg = Config(dict(default_scope=cfg.default_scope, model=dict(cfg.model)))
    counted = measure(cfg, (side, side))
    heads = ('head', 'neck', 'decode_head', 'auxiliary_head', 'rpn_head', 'bbox_head', 'mask_head')
    return sum(macs for part, macs in counted.macs.items() if part not in heads) / 1e9


def time_and_memory(
    run: Callable[[], object], repeats: int, device: torch.device
) -> tuple[float, float | None]:
    """Median milliseconds of a call, and on a GPU its peak of memory in MiB."""
    on_gpu = device.type == 'cuda'
    durations = []
    with torch.no_grad():
        run()
        if on_gpu:
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            if on_gpu:
                torch.cuda.synchronize()
            durations.append((time.perf_counter() - start) * 1e3)
    memory = (torch.cuda.max_memory_allocated() - before) / 2**20 if on_gpu else None
    return statistics.median(durations), memory


def scale_clustering(counts: Sequence[int], repeats: int, device: torch.device) -> None:
    """Print time and memory of the clustering over the number of tokens."""
    print('| tokens | ms | MiB | MiB of the matrices |')
    print('|---|---|---|---|')
    columns: list[list[float | None]] = []
    for tokens in counts:
        x = torch.randn(1, tokens, 512, device=device)
        found = time_and_memory(partial(dpc_knn, x, math.ceil(tokens / 4)), repeats, device)
        columns.append([*found, dpc_knn_bytes(1, tokens) / 2**20])
        print(f'| {tokens} | ' + ' | '.join(map(_shown, columns[-1])) + ' |', flush=True)
    sides = [math.sqrt(tokens) for tokens in counts]
    print('| slope | ' + ' | '.join(map(_shown, _slopes(sides, columns))) + ' |')


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='*', help='config files; their backbones are compared')
    parser.add_argument(
        '--tokens', nargs='+', type=int, metavar='N', help='time the clustering of N tokens alone'
    )
    parser.add_argument(
        '--sizes', nargs='+', type=int, default=[224, 384, 512, 768, 1024], help='sides in pixels'
    )
    parser.add_argument(
        '--repeats', type=int, default=5, help='passes to time; 0: count MACs alone'
    )
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args(argv)
    if len(set(args.sizes)) < 2 or min(args.sizes) < 32:
        raise UserError(f'--sizes must be at least two sides of 32 or more, got {args.sizes}')
    if args.repeats < 0:
        raise UserError(f'--repeats must be 0 or more, got {args.repeats}')
    if bool(args.configs) == bool(args.tokens):
        raise UserError('give either configs, whose backbones are measured, or --tokens')
    device = torch.device(args.device)
    print(
        f'one image, {device}, {torch.get_num_threads()} threads, median of {args.repeats} passes'
    )
    if args.tokens:
        if len(set(args.tokens)) < 2 or min(args.tokens) < 1 or not args.repeats:
            raise UserError(
                f'--tokens must be at least two positive numbers, got {args.tokens}, and --repeats 1'
                f' or more, got {args.repeats}'
            )
        return scale_clustering(args.tokens, args.repeats, device)
    print('| config | side | ' + ' | '.join(COLUMNS) + ' |')
    print('|---|---|' + '---|' * len(COLUMNS))
    for file in args.configs:
        cfg = Config.fromfile(file)
        init_default_scope(cfg.default_scope)
        name = Path(file).stem
        backbone = MODELS.build(cfg.model.backbone).eval().to(device)
        rows: list[list[float | None]] = []
        for side in args.sizes:
            row: list[float | None] = [backbone_macs(cfg, side), None, None]
            if args.repeats:
                image = torch.randn(1, backbone.in_channels, side, side, device=device)
                row[1:] = time_and_memory(partial(backbone, image), args.repeats, device)
            rows.append(row)
            print(f'| {name} | {side} | ' + ' | '.join(map(_shown, row)) + ' |', flush=True)
        slopes = map(_shown, _slopes(args.sizes, rows))
        print(f'| {name} | slope | ' + ' | '.join(slopes) + ' |', flush=True)


def _slopes(sizes: Sequence[float], rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The slope of every column that has no gap."""
    columns = map(list, zip(*rows, strict=True))
    return [None if None in column else slope(sizes, column) for column in columns]


def _shown(value: float | None) -> str:
    return '-' if value is None else f'{value:.3f}'


if __name__ == '__main__':
    run_tool(main)
