"""Feature maps through the patch mergings, a row for each merging and model (SPM, Figure 5(a)).

The picture, then the contrast of each cell before and after each step: the distance of its channel
vector from that of the average cell. The paper does not say what of a map it draws. Of SPM the
steps are MSA (aggregation) and GLE (enhancement); of other mergings the merging as a whole. The
maps of the same step have one scale in all models. The number is the mean contrast. --modules shows
other modules.
"""

import argparse
from collections.abc import Sequence

import torch

from spm_mm.engine import add_picture_arguments, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.merging import StepwiseMerging
from spm_mm.visualization import (
    Panel,
    Recorder,
    common_limits,
    contrast,
    load_backbone,
    read_image,
    save_panels,
)
from spm_mm.visualization.mechanisms import check_map

STEPS = {'aggregation': 'MSA', 'enhancement': 'GLE'}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'image', 'picture')
    parser.add_argument('--merging', type=int, help='show this merging alone, from 1; default: all')
    parser.add_argument('--modules', nargs='+', metavar='NAME', help='modules to show instead')
    args = parser.parse_args(argv)
    models = read_picture_arguments(args)
    rows = []  # (merging, captions and maps)
    for number, model in enumerate(models, 1):
        backbone = load_backbone(model.cfg, model.checkpoint, args.device)
        picture, image = read_image(args.image, model.cfg, args.size)
        groups = module_groups(backbone, args.modules, args.merging)
        names = [name for group in groups for name, _ in group]
        with torch.no_grad(), Recorder(backbone, modules=names) as seen:
            backbone(image.to(args.device))
        for group in groups:
            first, label = group[0]
            maps = [(f'before {label}', check_map(first, seen.inputs[first]))]
            maps += [(f'after {label}', check_map(n, seen.outputs[n])) for n, label in group]
            values = [
                (f'{number}: {caption}, {m.shape[1]} x {m.shape[2]} cells', contrast(m))
                for caption, m in maps
            ]
            rows.append(('.'.join(first.split('.')[:2]), picture, values))
    # The rows of the same merging belong together.
    order = list(dict.fromkeys(name for name, *_ in rows))
    rows.sort(key=lambda row: order.index(row[0]))
    panels = []
    for name, picture, values in rows:
        same = [others for other, _, others in rows if other == name]
        panels.append([Panel(picture, 'picture')])
        for column, (caption, value) in enumerate(values):
            limits = common_limits([o[column][1] for o in same if column < len(o)])
            panels[-1].append(
                Panel(value, f'{caption}\nmean contrast {value.mean():.2f}', limits=limits)
            )
    names = '\n'.join(f'{number}: {model.name}' for number, model in enumerate(models, 1))
    save_panels(args.out, panels, f'contrast of feature maps\n{names}')
    print(f'wrote {args.out}')


def module_groups(
    backbone: torch.nn.Module, modules: Sequence[str] | None, merging: int | None
) -> list[list[tuple[str, str]]]:
    """Names and captions of the modules to show, a list for each row."""
    if modules:
        return [[(name, name)] for name in modules]
    count = len(backbone.mergings)
    if not count:
        raise UserError(f'this {type(backbone).__name__} has no merging: use --modules')
    if merging is not None and not 1 <= merging <= count:
        raise UserError(f'--merging must be from 1 to {count}, got {merging}')
    groups = []
    for i in range(count) if merging is None else [merging - 1]:
        name, part = f'mergings.{i}', backbone.mergings[i]
        steps = [(name, type(part).__name__)]
        if isinstance(part, StepwiseMerging):
            steps = [(f'{name}.{step}', label) for step, label in STEPS.items()]
        groups.append(steps)
    return groups


if __name__ == '__main__':
    run_tool(main)
