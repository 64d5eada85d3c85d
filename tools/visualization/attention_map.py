"""Where one query looks, in the heads of one block, for several pictures and models (SPM, Figure
4).

A row for each picture: the picture with the query as a star, then every head of the model and
of the models of --beside. All heads of a row have one scale. The number is the entropy of the head,
0 (one key) to 1 (all keys alike).
"""

import argparse
from collections.abc import Sequence

from rich.progress import track

from spm_mm.engine import add_picture_arguments, add_place, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import (
    Panel,
    attention_of_query,
    common_limits,
    entropy,
    find_pictures,
    load_backbone,
    read_image,
    save_panels,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'pictures', 'picture, or folder of pictures')
    parser.add_argument('--number', type=int, default=6, help='how many pictures at most')
    parser.add_argument('--stage', type=int, default=2, help='stage, 1 to 4')
    parser.add_argument('--block', type=int, default=0, help='block of the stage; -1 is the last')
    add_place(parser, '--query', 'the query')
    args = parser.parse_args(argv)
    models = read_picture_arguments(args)
    backbones = [load_backbone(m.cfg, m.checkpoint, args.device) for m in models]
    blocks = [block_name(backbone.stages, args.stage, args.block) for backbone in backbones]
    mark = tuple(args.query)
    rows = []
    for path in track(find_pictures(args.pictures, args.number), 'pictures'):
        heads = []
        for model, backbone, block in zip(models, backbones, blocks, strict=True):
            picture, image = read_image(path, model.cfg, args.size)
            heads.append(attention_of_query(backbone, image.to(args.device), [block], mark)[block])
        limits = common_limits(heads)
        rows.append([Panel(picture, path.name, mark=mark)])
        for number, weights in enumerate(heads, 1):
            of = f'model {number}, ' if len(models) > 1 else ''
            rows[-1] += [
                Panel(
                    picture,
                    f'{of}head {i}\nentropy {entropy(w):.2f}',
                    w,
                    mark,
                    limits=limits,
                    scale='attention',
                )
                for i, w in enumerate(weights)
            ]
    names = '\n'.join(f'{number}: {model.name}' for number, model in enumerate(models, 1))
    save_panels(args.out, rows, f'attention of one query, {blocks[0]}\n{names}')
    print(f'wrote {args.out}')


def block_name(stages: Sequence, stage: int, block: int) -> str:
    if not 1 <= stage <= len(stages):
        raise UserError(f'--stage must be from 1 to {len(stages)}, got {stage}')
    blocks = len(stages[stage - 1].blocks)
    if not -blocks <= block < blocks:
        raise UserError(f'--block must be from {-blocks} to {blocks - 1}, got {block}')
    return f'stages.{stage - 1}.blocks.{block % blocks}'


if __name__ == '__main__':
    run_tool(main)
