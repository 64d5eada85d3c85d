"""The clusters of tokens that a cluster merging has found, one colour each (HAFA, Figure 4)."""

import argparse
from collections.abc import Sequence

from spm_mm.engine import add_picture_arguments, read_picture_arguments, run_tool
from spm_mm.visualization import (
    Panel,
    load_backbone,
    paint_clusters,
    read_image,
    save_panels,
    token_clusters,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'image', 'picture')
    args = parser.parse_args(argv)
    cfg, size, title = read_picture_arguments(args)
    backbone = load_backbone(cfg, args.checkpoint)
    picture, image = read_image(args.image, cfg, size)
    panels = [Panel(picture, 'picture')]
    for stage, clusters in token_clusters(backbone, image).items():
        rows, columns = clusters.shape
        caption = f'before stage {stage}\n{rows} x {columns} cells, {clusters.max() + 1} tokens'
        panels.append(Panel(paint_clusters(picture, clusters), caption))
    save_panels(args.out, [panels], f'clusters of tokens\n{title}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
