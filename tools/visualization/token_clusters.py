"""The clusters of tokens that a cluster merging finds, and what a segmentor makes of them (HAFA,
Figure 4).

A row for each picture: the picture, its clusters before each stage that a cluster merging precedes,
one colour each, and for configs of MMSegmentation the segmentation by the model and by those of
--beside. The number is how many cells a cluster has on average.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from rich.progress import track

from spm_mm.engine import add_picture_arguments, read_picture_arguments, run_tool
from spm_mm.visualization import (
    Panel,
    class_colours,
    find_pictures,
    load_model,
    occurring,
    paint_labels,
    predict_labels,
    read_image,
    save_panels,
    token_clusters,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'pictures', 'picture, or folder of pictures')
    parser.add_argument('--number', type=int, default=4, help='how many pictures at most')
    args = parser.parse_args(argv)
    models = read_picture_arguments(args)
    built = [load_model(m.cfg, m.checkpoint, args.device) for m in models]
    panels, legend = [], {}
    for path in track(find_pictures(args.pictures, args.number), 'pictures'):
        picture, image = read_image(path, models[0].cfg, args.size)
        row = [Panel(picture, path.name)]
        for stage, clusters in token_clusters(built[0].backbone, image.to(args.device)).items():
            size = clusters.size / (clusters.max() + 1)
            caption = f'{clusters.max() + 1} tokens before stage {stage}\n{size:.1f} cells each'
            row.append(Panel(paint_labels(picture, clusters), caption))
        for number, (model, segmentor) in enumerate(zip(models, built, strict=True), 1):
            if model.cfg.default_scope == 'mmseg':
                picture, image = read_image(path, model.cfg, args.size)
                labels = predict_labels(segmentor, image.to(args.device))
                colours = class_colours(model.cfg)
                legend |= occurring(colours, labels)
                caption = f'{number}: segmentation\n{len(np.unique(labels))} classes'
                row.append(Panel(paint_labels(picture, labels, [*colours.values()]), caption))
        panels.append(row)
    names = '\n'.join(f'{number}: {model.name}' for number, model in enumerate(models, 1))
    save_panels(args.out, panels, f'clusters of tokens\n{names}', legend)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
