"""Where one query of one attention head looks; the query is marked (SPM, Figure 4)."""

import argparse

from spm_mm.engine import add_picture_arguments, add_place, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import Panel, attention_of_query, load_backbone, read_image, save_panels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'image', 'picture')
    parser.add_argument('--stage', type=int, default=4, help='stage, 1 to 4')
    parser.add_argument('--block', type=int, default=-1, help='block of the stage; -1 is the last')
    parser.add_argument('--head', type=int, default=0, help='attention head, from 0')
    add_place(parser, '--query', 'the query')
    args = parser.parse_args()
    cfg, size, title = read_picture_arguments(args)
    backbone = load_backbone(cfg, args.checkpoint)
    if not 1 <= args.stage <= len(backbone.stages):
        raise UserError(f'--stage must be from 1 to {len(backbone.stages)}, got {args.stage}')
    blocks = len(backbone.stages[args.stage - 1].blocks)
    if not -blocks <= args.block < blocks:
        raise UserError(f'--block must be from {-blocks} to {blocks - 1}, got {args.block}')
    block = f'stages.{args.stage - 1}.blocks.{args.block % blocks}'
    picture, image = read_image(args.image, cfg, size)
    weights, _ = attention_of_query(backbone, image, block, args.head, tuple(args.query))
    mark = tuple(args.query)
    panels = [
        Panel(picture, 'picture and query', mark=mark),
        Panel(
            picture,
            f'stage {args.stage}, block {args.block % blocks}, head {args.head}\n'
            f'{weights.shape[0]} x {weights.shape[1]} keys, weights to {weights.max():.3f}',
            overlay=weights,
            mark=mark,
        ),
    ]
    save_panels(args.out, [panels], f'attention of one query\n{title}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
