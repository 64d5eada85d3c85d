"""Write docs/grid.md: parameters and multiply-accumulates of every backbone with every merging.

Backbones and mergings are those that are registered; nothing lists them here.
"""

import argparse
import inspect
import logging
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.engine import measure, run_tool
from spm_mm.merging import Merging
from spm_mm.registry import SCOPE, registered

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'grid.md'
SIDE = 224
HEADER = f"""# Every backbone with every merging

Parameters in M / multiply-accumulates (MACs) in G of a backbone without a head, in the form for dense
tasks, for one image of {SIDE} x {SIDE}. Each backbone is what its class builds without an `arch`.
`own` is its own merging with its own options (PVTv2's convolution has a kernel of 3); a merging with a
name stands between all stages, with its default options. MACs are those of matrix products and
convolutions, as `tools/analysis_tools/get_flops.py` counts them.

Written by `python tools/analysis_tools/make_grid.py`: do not edit.
"""
FOOTER = """
-: the merging leaves the grid, and the blocks of this backbone need one; building it says so.
"""


def backbones() -> dict[str, str]:
    """Registered backbones, each with the architecture that it has by default."""
    return {
        name: inspect.signature(cls).parameters['arch'].default
        for name, cls in registered(HierarchicalBackbone).items()
    }


def cell(backbone: str, merging: str | None) -> str:
    """What the table says of a pair; None is the backbone's own merging."""
    classes, kinds = registered(HierarchicalBackbone), registered(Merging)
    if merging and not (kinds[merging].keeps_grid or classes[backbone].takes_tokens):
        return '-'
    config = {'type': f'{SCOPE}.{backbone}'}
    if merging:
        config['merging'] = {'type': f'{SCOPE}.{merging}'}
    # A classifier without neck and head is its backbone.
    model = {'type': 'ImageClassifier', 'backbone': config}
    counted = measure(Config(dict(default_scope='mmpretrain', model=model)), (SIDE, SIDE))
    return f'{counted.total_params / 1e6:.2f} / {counted.total_macs / 1e9:.2f}'


def columns() -> list[str | None]:
    return [None, *registered(Merging)]


def row(backbone: str, cells: list[str]) -> str:
    return f'| {backbone} {backbones()[backbone]} | {" | ".join(cells)} |'


def page() -> str:
    """The whole page."""
    names = ['own', *(name.removesuffix('Merging') for name in registered(Merging))]
    lines = [f'| backbone | {" | ".join(names)} |', f'|---|{"---|" * len(names)}']
    for backbone in backbones():
        lines.append(row(backbone, [cell(backbone, merging) for merging in columns()]))
    return '\n'.join([HEADER, *lines, FOOTER])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing; status 1 if outdated')
    args = parser.parse_args()
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    content = page()
    if args.check and (not PAGE.is_file() or PAGE.read_text() != content):
        sys.exit(f'outdated: {PAGE}; run tools/analysis_tools/make_grid.py')
    if not args.check:
        PAGE.write_text(content)
        print(f'wrote {PAGE}')


if __name__ == '__main__':
    run_tool(main)
