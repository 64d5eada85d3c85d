"""What SG-Former finds significant, its regions, and which tokens become one (SG-Former, Figure 2).

A row for each picture: the picture with the significance over it, the regions by aggregation rate,
the merged tokens, one colour each, and the tokens that become one with that at --place. With a PVT
by --beside, the uniform merging of its attention stands last. The number is the share of all merged
tokens that the most significant quarter of the cells keeps.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from rich.progress import track

from spm_mm.engine import add_picture_arguments, add_place, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import (
    Panel,
    aggregation_of_block,
    cell_at,
    find_pictures,
    load_backbone,
    many_colours,
    read_image,
    save_panels,
    self_guided_blocks,
    share_of_most_significant,
    uniform_aggregation,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'pictures', 'picture, or folder of pictures')
    parser.add_argument('--number', type=int, default=4, help='how many pictures at most')
    parser.add_argument('--stage', type=int, default=1, help='stage, 1 to 3')
    parser.add_argument(
        '--block', type=int, help='self-guided block of the stage, from 0; default its last'
    )
    add_place(parser, '--place', 'the merged token that is shown')
    args = parser.parse_args(argv)
    model, *others = read_picture_arguments(args)
    backbone = load_backbone(model.cfg, model.checkpoint, args.device)
    if not 1 <= args.stage <= len(backbone.stages):
        raise UserError(f'--stage must be from 1 to {len(backbone.stages)}, got {args.stage}')
    blocks = self_guided_blocks(backbone.stages[args.stage - 1])
    if not blocks:
        raise UserError(f'stage {args.stage} of {type(backbone).__name__} has no self-guided block')
    block = blocks[-1] if args.block is None else args.block
    ratios = [reduction(load_backbone(other.cfg, None), args.stage) for other in others]
    mark = tuple(args.place)
    rows = []
    for path in track(find_pictures(args.pictures, args.number), 'pictures'):
        picture, image = read_image(path, model.cfg, args.size)
        found = aggregation_of_block(backbone, image.to(args.device), args.stage - 1, block)
        together = found.merged == found.merged[cell_at(mark, found.merged.shape)]
        rates = sorted(set(found.rates.flat), reverse=True)
        order = np.searchsorted(-np.array(rates), -found.rates)

        def tokens(merged: np.ndarray, of: str, significance=found.significance) -> Panel:
            share = share_of_most_significant(significance, merged)
            return Panel(
                many_colours(merged.max() + 1)[merged],
                f'{of}: {merged.max() + 1} tokens\ntop quarter keeps {share:.0%}',
            )

        row = [
            Panel(picture, path.name, mark=mark),
            Panel(
                picture,
                f'significance, {found.significance.min():.4f}\nto {found.significance.max():.4f}',
                found.significance,
            ),
            Panel(picture, f'rates {", ".join(map(str, rates))}\nfrom dark to bright', order),
            tokens(found.merged, 'self-guided'),
            Panel(picture, f'{together.sum()} tokens become one', together.astype(float), mark),
        ]
        row += [tokens(uniform_aggregation(order.shape, r), 'uniform') for r in ratios]
        rows.append(row)
    names = '\n'.join([model.name, *(other.name for other in others)])
    save_panels(args.out, rows, f'stage {args.stage}, block {block} of\n{names}')
    print(f'wrote {args.out}')


def reduction(backbone, stage: int) -> int:
    """How many rows and columns of tokens the spatial reduction of a stage joins."""
    if 'sr_ratios' not in backbone.arch:
        raise UserError(f'--beside takes a PVT, whose reduction is uniform, not a {type(backbone)}')
    return backbone.arch['sr_ratios'][stage - 1]


if __name__ == '__main__':
    run_tool(main)
