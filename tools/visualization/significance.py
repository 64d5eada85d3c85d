"""What SG-Former finds significant, its regions by aggregation rate, and which tokens become one
(SG-Former, Figure 2).
"""

import argparse

import numpy as np

from spm_mm.engine import add_picture_arguments, add_place, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import (
    Panel,
    aggregation_of_block,
    load_backbone,
    read_image,
    save_panels,
    self_guided_blocks,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'image', 'picture')
    parser.add_argument('--stage', type=int, default=1, help='stage, 1 to 3')
    parser.add_argument(
        '--block', type=int, help='self-guided block of the stage, from 0; default its last'
    )
    add_place(parser, '--place', 'the merged token that is shown')
    args = parser.parse_args()
    cfg, size, title = read_picture_arguments(args)
    backbone = load_backbone(cfg, args.checkpoint)
    if not 1 <= args.stage <= len(backbone.stages):
        raise UserError(f'--stage must be from 1 to {len(backbone.stages)}, got {args.stage}')
    blocks = self_guided_blocks(backbone.stages[args.stage - 1])
    if not blocks:
        raise UserError(f'stage {args.stage} of {type(backbone).__name__} has no self-guided block')
    block = blocks[-1] if args.block is None else args.block
    picture, image = read_image(args.image, cfg, size)
    found = aggregation_of_block(backbone, image, args.stage - 1, block)

    height, width = found.merged.shape
    row, column = (
        min(int(share * side), side - 1)
        for share, side in zip(args.place[::-1], (height, width), strict=True)
    )
    together = found.merged == found.merged[row, column]
    colours = np.random.default_rng(0).integers(40, 256, (found.merged.max() + 1, 3), np.uint8)
    rates = sorted(set(found.rates.flat), reverse=True)
    order = np.searchsorted(-np.array(rates), -found.rates)
    mark = tuple(args.place)
    panels = [
        Panel(picture, 'picture and place', mark=mark),
        Panel(
            picture,
            f'significance, {found.significance.min():.4f} to {found.significance.max():.4f}',
            overlay=found.significance,
        ),
        Panel(
            picture,
            f'rates {", ".join(map(str, rates))}\nfrom dark to bright',
            overlay=order,
        ),
        Panel(
            colours[found.merged],
            f'{height * width} tokens, {found.merged.max() + 1} merged\none colour each',
        ),
        Panel(
            picture,
            f'{together.sum()} tokens that become one\nwith that at the place',
            overlay=together.astype(float),
            mark=mark,
        ),
    ]
    save_panels(args.out, [panels], f'stage {args.stage}, block {block} of\n{title}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
