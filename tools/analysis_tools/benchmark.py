"""Time and peak memory of the backbones of configs, forward and as a training step.

Every measurement runs in a process of its own, on random weights and images. Memory on the CPU is the
largest resident size of that process less its size before the first pass; on a GPU it is what PyTorch
allocated. A training step is forward and backward, without optimizer. CONFIG:MERGING puts another
merging into a config: `CONFIG CONFIG:ConvMerging` sets its own beside plain convolution.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from spm_mm.engine import run_tool
from spm_mm.errors import UserError

MODES = ('forward', 'train')


def measure(
    path: str, merging: str, mode: str, batch: int, shape: tuple[int, int], repeat: int, device: str
) -> tuple[float, float]:
    """Median seconds of a pass and GiB at its peak."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.get('default_scope', 'spm_mm'))
    backbone = dict(cfg.model.backbone)
    backbone.pop('init_cfg', None)
    if merging:
        backbone['merging'] = dict(type=f'spm_mm.{merging}')
    model = MODELS.build(backbone).to(device).train(mode == 'train')
    images = torch.randn(batch, model.in_channels, *shape, device=device)
    before = _peak(device)
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        with torch.set_grad_enabled(mode == 'train'):
            outs = model(images)
            if mode == 'train':
                sum(out.float().square().mean() for out in outs).backward()
        if device != 'cpu':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = _peak(device) - (before if device == 'cpu' else 0)
    return statistics.median(seconds), peak / 2**30


def _peak(device: str) -> int:
    if device != 'cpu':
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+', metavar='CONFIG[:MERGING]')
    parser.add_argument(
        '--shape', nargs=2, type=int, action='append', metavar=('H', 'W'), help='default 224 224'
    )
    parser.add_argument('--batch', type=int, default=1, help='images in a pass, default 1')
    parser.add_argument('--repeat', type=int, default=3, help='passes, of which the median counts')
    parser.add_argument('--mode', choices=MODES, action='append', help='default both')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    args = parser.parse_args()
    if min(args.batch, args.repeat, *(side for shape in args.shape or () for side in shape)) < 1:
        raise UserError('--batch, --repeat and --shape must be at least 1')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda needs a GPU that PyTorch sees')
    for config in args.configs:
        if not Path(config.partition(':')[0]).is_file():
            raise UserError(f'config {config.partition(":")[0]} does not exist')
    print(f'{args.device}, {torch.get_num_threads()} threads, batch {args.batch}')
    print('| config | merging | size | mode | images / s | peak GiB |')
    print('|---|---|---|---|---|---|')
    context = multiprocessing.get_context('spawn')
    for config in args.configs:
        path, _, merging = config.partition(':')
        for shape in args.shape or [(224, 224)]:
            for mode in args.mode or MODES:
                job = (path, merging, mode, args.batch, tuple(shape), args.repeat, args.device)
                with context.Pool(1) as pool:
                    seconds, peak = pool.apply(measure, job)
                print(
                    f'| {Path(path).stem} | {merging or "its own"} | {shape[0]} x {shape[1]} |'
                    f' {mode} | {args.batch / seconds:.2f} | {peak:.2f} |',
                    flush=True,
                )


if __name__ == '__main__':
    run_tool(main)
