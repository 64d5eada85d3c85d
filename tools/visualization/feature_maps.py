"""Feature maps through the patch mergings: the strength of each cell, before and after each step.

Of SPM the steps are MSA (aggregation) and GLE (enhancement); of other mergings the merging as a whole.
--modules shows others, by their names in the backbone.
"""

import argparse

import torch
from torch import Tensor

from spm_mm.engine import add_picture_arguments, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.merging import StepwiseMerging
from spm_mm.visualization import Panel, Recorder, load_backbone, read_image, save_panels, strength
from spm_mm.visualization.mechanisms import check_map

STEPS = {'aggregation': 'MSA', 'enhancement': 'GLE'}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'image', 'picture')
    parser.add_argument('--modules', nargs='+', metavar='NAME', help='modules to show')
    args = parser.parse_args()
    cfg, size, title = read_picture_arguments(args)
    backbone = load_backbone(cfg, args.checkpoint)
    rows = [[(name, name)] for name in args.modules or ()]
    if not rows:
        for i, merging in enumerate(backbone.mergings):
            name = f'mergings.{i}'
            steps = [(name, type(merging).__name__)]
            if isinstance(merging, StepwiseMerging):
                steps = [(f'{name}.{step}', label) for step, label in STEPS.items()]
            rows.append(steps)
    if not rows:
        raise UserError(f'the backbone of {args.config} has no merging: use --modules')
    picture, image = read_image(args.image, cfg, size)
    names = [name for row in rows for name, _ in row]
    with torch.no_grad(), Recorder(backbone, modules=names) as seen:
        backbone(image)

    def panel(name: str, value: Tensor, caption: str) -> Panel:
        value = check_map(name, value)
        return Panel(strength(value), f'{caption}\n{value.shape[1]} x {value.shape[2]} cells')

    panels = []
    for row in rows:
        first = row[0][0]
        panels.append(
            [Panel(picture, 'picture'), panel(first, seen.inputs[first], f'before {row[0][1]}')]
        )
        panels[-1] += [panel(name, seen.outputs[name], f'after {label}') for name, label in row]
    save_panels(args.out, panels, f'strength of feature maps\n{title}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
