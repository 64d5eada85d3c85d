"""Write docs/benchmarks/grid.md: parameters and MACs of every backbone with every merging.

Backbones and mergings are those that are registered; nothing lists them here but the three of HAFA.
"""

import argparse
import inspect
import logging
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.engine import measure, run_tool
from spm_mm.merging import Merging
from spm_mm.registry import MODELS, SCOPE, registered

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'benchmarks' / 'grid.md'
SIDE = 224
HEADER = f"""# Every backbone with every merging

Parameters in M / multiply-accumulates (MACs) in G of a backbone that returns four feature maps,
without a head, for one image of {SIDE} x {SIDE}. Each backbone has the default `arch` of its class.

- `own` is the merging of the backbone itself, with its own options (PVTv2's convolution has a kernel
  of 3).
- Every other column has that merging at all three transitions, with its default options. So `Cluster`
  is SIA at all three, as in HAFA's Table 4.
- `HAFA` is Deformable, Deformable, Cluster.
- `-` is not possible: Cluster and Similarity return tokens without a grid, and the blocks of this
  backbone need one.

MACs are those of matrix products and convolutions, as `tools/analysis_tools/get_flops.py` counts
them.

Written by `python tools/analysis_tools/make_grid.py`: do not edit.
"""


def backbones() -> dict[str, str]:
    """Registered backbones, each with the architecture that it has by default."""
    return {
        name: inspect.signature(cls).parameters['arch'].default
        for name, cls in registered(HierarchicalBackbone).items()
    }


def columns() -> dict[str, Any]:
    """What stands between the stages, as a backbone takes it, by the head of its column."""
    mergings = {
        name.removesuffix('Merging'): {'type': f'{SCOPE}.{name}'} for name in registered(Merging)
    }
    laa, sia = mergings['Deformable'], mergings['Cluster']
    return {'own': None, **mergings, 'HAFA': [laa, laa, sia]}


def cell(backbone: str, merging: Any) -> str:
    """What the table says of a pair; None is the backbone's own merging."""
    parts = merging if isinstance(merging, list) else [merging] if merging else []
    keeps_grid = all(MODELS.get(part['type']).keeps_grid for part in parts)
    if not (keeps_grid or registered(HierarchicalBackbone)[backbone].takes_tokens):
        return '-'
    config = {'type': f'{SCOPE}.{backbone}'}
    if merging:
        config['merging'] = merging
    # A classifier without neck and head is its backbone.
    model = {'type': 'ImageClassifier', 'backbone': config}
    counted = measure(Config(dict(default_scope='mmpretrain', model=model)), (SIDE, SIDE))
    return f'{counted.total_params / 1e6:.2f} / {counted.total_macs / 1e9:.2f}'


def page() -> str:
    """The whole page."""
    heads = columns()
    lines = [f'| backbone | {" | ".join(heads)} |', f'|---|{"---|" * len(heads)}']
    for backbone, arch in backbones().items():
        cells = (cell(backbone, merging) for merging in heads.values())
        lines.append(f'| {backbone} {arch} | {" | ".join(cells)} |')
    return '\n'.join([HEADER, *lines, ''])


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
