"""Effective receptive fields of the central cell after each patch merging (SPM, Figure 5(b)).

A row for the model and one for each of --beside, averaged over pictures. The paper speaks of the
outputs of three stages; they are read as those of the three mergings, as its Table 8 names them.
The fields of all models have one scale; it is the square root, because the tails are faint. The
number is the smallest share of the picture that holds half of the field's energy.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from rich.progress import track

from spm_mm.engine import add_picture_arguments, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import (
    Panel,
    common_limits,
    find_pictures,
    half_energy_area,
    load_backbone,
    read_image,
    receptive_fields,
    save_panels,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'pictures', 'picture, or folder of pictures at any depth')
    parser.add_argument(
        '--number', type=int, default=5000, help='how many pictures at most; default: 5000'
    )
    parser.add_argument('--before', action='store_true', help='show the maps before mergings, too')
    parser.set_defaults(size=(256, 256))
    args = parser.parse_args(argv)
    models = read_picture_arguments(args)
    files = find_pictures(args.pictures, args.number)
    drawn: list[list[tuple[str, np.ndarray]]] = []
    for model in models:
        backbone = load_backbone(model.cfg, model.checkpoint, args.device)
        names = [f'mergings.{i}' for i in range(len(backbone.mergings))]
        if not names:
            raise UserError(f'the backbone of {model.name} has no merging')
        images = (
            read_image(path, model.cfg, args.size)[1].to(args.device)
            for path in track(files, model.name)
        )
        row = []
        fields = receptive_fields(backbone.requires_grad_(False), images, names)
        for i, (before, after) in enumerate(fields.values()):
            merging = type(backbone.mergings[i]).__name__
            row += [(f'before merging {i + 1}', before)] if args.before else []
            row += [(f'after merging {i + 1}, {merging}', after)]
        drawn.append(row)
    limits = common_limits([np.sqrt(field) for row in drawn for _, field in row])
    panels = []
    for number, (model, row) in enumerate(zip(models, drawn, strict=True), 1):
        panels.append([])
        for caption, field in row:
            area = f'{half_energy_area(field):.2%} holds half of the energy'
            panels[-1].append(
                Panel(
                    np.sqrt(field),
                    f'{number}: {caption}\n{area}',
                    limits=limits,
                    scale='square root of the energy',
                    scale_bar=field.shape[1] // 4,
                )
            )
            print(f'{model.name}: {caption}: {area}')
    names = '\n'.join(f'{number}: {model.name}' for number, model in enumerate(models, 1))
    save_panels(args.out, panels, f'effective receptive field, {len(files)} pictures\n{names}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
