"""Parameters and multiply-accumulates (MACs) of a config's model, part by part; needs no data.

Papers print MACs as FLOPs. What runs in training alone has parameters and no MACs. A merging is
split into its own parts; --as-published counts the work of the official code, which asks for
queries, keys and values of every token where ours spares some (SPM, Figure 6(a)).
"""

import argparse
import logging
from collections.abc import Sequence

from mmengine.logging import MMLogger

from spm_mm.engine import add_config, default_shape, load_config, measure, run_tool
from spm_mm.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='height and width of the image; default: 800 x 1280 for detectors, else the test crop',
    )
    parser.add_argument(
        '--as-published', action='store_true', help='count the work of the official code'
    )
    args = parser.parse_args(argv)
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    cfg = load_config(args)
    shape = tuple(args.shape) if args.shape else default_shape(cfg)
    if min(shape) < 1:
        raise UserError(f'--shape must be positive, got {args.shape}')
    counted = measure(cfg, shape, args.as_published)
    lines: list[tuple[str, int, int]] = []
    for part, params in counted.params.items():
        lines.append((part, params, counted.macs[part]))
        if part.startswith('mergings.'):
            inner = counted.split(f'backbone.{part}').items()
            lines += [(f'  {name}', *both) for name, both in inner]
    lines.append(('all', counted.total_params, counted.total_macs))
    width = max(len(name) for name, *_ in lines)
    print(f'one image of {shape[0]} x {shape[1]}')
    print(f'{"part":{width}}  {"parameters":>12}  {"MACs (G)":>9}')
    for name, params, macs in lines:
        print(f'{name:{width}}  {params:12,}  {macs / 1e9:9.3f}')
    mergings = [part for part in counted.params if part.startswith('mergings.')]
    if mergings:
        params, macs = (sum(of[p] for p in mergings) for of in (counted.params, counted.macs))
        print(f'{"mergings":{width}}  {params:12,}  {macs / 1e9:9.3f}')


if __name__ == '__main__':
    run_tool(main)
