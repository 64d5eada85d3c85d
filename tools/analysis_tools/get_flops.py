"""Parameters and multiply-accumulates (MACs) of a config's model, part by part; needs no data.

Papers print MACs as FLOPs. What runs in training alone has parameters and no MACs.
"""

import argparse
import logging

from mmengine.logging import MMLogger

from spm_mm.engine import add_config, default_shape, load_config, measure, run_tool
from spm_mm.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='height and width of the image; default: 800 x 1280 for detectors, else the test crop',
    )
    args = parser.parse_args()
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    cfg = load_config(args)
    shape = tuple(args.shape) if args.shape else default_shape(cfg)
    if min(shape) < 1:
        raise UserError(f'--shape must be positive, got {args.shape}')
    counted = measure(cfg, shape)
    width = max(map(len, counted.params))
    print(f'one image of {shape[0]} x {shape[1]}')
    print(f'{"part":{width}}  {"parameters":>12}  {"MACs (G)":>9}')
    for part, params in counted.params.items():
        print(f'{part:{width}}  {params:12,}  {counted.macs[part] / 1e9:9.3f}')
    print(f'{"all":{width}}  {counted.total_params:12,}  {counted.total_macs / 1e9:9.3f}')


if __name__ == '__main__':
    run_tool(main)
