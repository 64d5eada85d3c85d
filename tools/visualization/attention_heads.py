"""Where one query looks, in every head of every stage that attends (LIT, Figure 3)."""

import argparse

from spm_mm.engine import add_picture_arguments, add_place, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import Panel, attention_of_query, load_backbone, read_image, save_panels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'image', 'picture')
    add_place(parser, '--query', 'the query')
    args = parser.parse_args()
    cfg, size, title = read_picture_arguments(args)
    backbone = load_backbone(cfg, args.checkpoint)
    picture, image = read_image(args.image, cfg, size)
    mark = tuple(args.query)
    rows = []
    for i, stage in enumerate(backbone.stages):
        last = len(stage.blocks) - 1
        if getattr(stage.blocks[last], 'attn', None) is None:
            continue
        row = []
        for head in range(stage.blocks[last].attn.num_heads):
            block = f'stages.{i}.blocks.{last}'
            weights, _ = attention_of_query(backbone, image, block, head, mark)
            caption = f'stage {i + 1}, head {head}, to {weights.max():.3f}'
            row.append(Panel(picture, caption, overlay=weights, mark=mark))
        rows.append(row)
    if not rows:
        raise UserError(f'{type(backbone).__name__} of {args.config} has no attention')
    save_panels(args.out, rows, f'attention of one query in the last block of each stage\n{title}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
