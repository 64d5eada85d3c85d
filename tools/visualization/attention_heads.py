"""Where one query looks in every head (columns) of every block (rows), on average over pictures
(LIT, Figure 3).

Darker is more attention, as in the paper, which does not state its scale; here each head has its
own. The number is the entropy of the head, 0 (one key) to 1 (all keys alike).
"""

import argparse
from collections.abc import Sequence

import numpy as np
from rich.progress import track

from spm_mm.engine import add_picture_arguments, add_place, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import (
    INK,
    Panel,
    attention_of_query,
    cell_at,
    entropy,
    find_pictures,
    load_backbone,
    read_image,
    save_panels,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'pictures', 'picture, or folder of pictures', beside=False)
    parser.add_argument('--number', type=int, default=100, help='how many pictures at most')
    add_place(parser, '--query', 'the query')
    args = parser.parse_args(argv)
    (model,) = read_picture_arguments(args)
    backbone = load_backbone(model.cfg, model.checkpoint, args.device)
    blocks = [
        f'stages.{i}.blocks.{j}'
        for i, stage in enumerate(backbone.stages)
        for j, block in enumerate(stage.blocks)
        if getattr(block, 'attn', None) is not None
    ]
    if not blocks:
        raise UserError(f'{type(backbone).__name__} of {args.config} has no attention')
    files = find_pictures(args.pictures, args.number)
    total: dict[str, np.ndarray] = {}
    for path in track(files, 'pictures'):
        _, image = read_image(path, model.cfg, args.size)
        found = attention_of_query(backbone, image.to(args.device), blocks, tuple(args.query))
        for block, weights in found.items():
            if block in total and total[block].shape != weights.shape:
                raise UserError('the pictures differ in size: bring them to one by --size')
            total[block] = total.get(block, 0) + weights / len(files)
    rows, names = [], []
    for block, heads in total.items():
        stage, number = (int(part) for part in block.split('.')[1::2])
        names.append(f'stage {stage + 1}\nblock {number}')
        frame = cell_frame(tuple(args.query), heads.shape[1:])
        rows.append(
            [
                Panel(
                    weights,
                    f'head {i}\nentropy {entropy(weights):.2f}',
                    frame=frame,
                    colours=INK,
                )
                for i, weights in enumerate(heads)
            ]
        )
    title = f'attention of one query, mean of {len(files)} pictures\n{model.name}'
    save_panels(args.out, rows, title, rows=names)
    print(f'wrote {args.out}')


def cell_frame(query: tuple[float, float], grid: tuple[int, int]) -> tuple[float, ...]:
    """The cell of the query, as shares of the picture: left, top, right, bottom."""
    (row, column), (rows, columns) = cell_at(query, grid), grid
    return column / columns, row / rows, (column + 1) / columns, (row + 1) / rows


if __name__ == '__main__':
    run_tool(main)
