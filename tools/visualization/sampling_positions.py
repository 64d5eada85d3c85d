"""Where the deformable mergings before a cell read in the image, beside the regular grid (LIT,
Figure 2).

A row for each picture: dots are what is read, the frame is the cell. The numbers are how
far the places have moved on average and how many lie outside of the frame.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from rich.progress import track

from spm_mm.engine import add_picture_arguments, add_place, read_picture_arguments, run_tool
from spm_mm.visualization import (
    Panel,
    find_pictures,
    load_backbone,
    read_image,
    sampled_pixels,
    save_panels,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'pictures', 'picture, or folder of pictures', beside=False)
    parser.add_argument('--number', type=int, default=4, help='how many pictures at most')
    parser.add_argument('--stage', type=int, default=4, help='stage of the cell, 2 to 4')
    add_place(parser, '--place', 'the cell')
    args = parser.parse_args(argv)
    (model,) = read_picture_arguments(args)
    backbone = load_backbone(model.cfg, model.checkpoint, args.device)
    panels = []
    for path in track(find_pictures(args.pictures, args.number), 'pictures'):
        picture, image = read_image(path, model.cfg, args.size)
        found = sampled_pixels(backbone, image.to(args.device), args.stage, tuple(args.place))
        left, top, right, bottom = found.cell
        outside = (found.points < (left, top)) | (found.points > (right, bottom))
        shift = np.linalg.norm(found.points - found.regular, axis=1)
        size = np.array(picture.shape[1::-1])
        frame = tuple((np.reshape(found.cell, (2, 2)) / size).ravel())
        captions = {
            f'{path.name}\nregular grid': found.regular,
            f'{len(shift)} places, moved by {shift.mean():.1f} pixels\n'
            f'{outside.any(axis=1).mean():.0%} outside of the cell': found.points,
        }
        panels.append(
            [Panel(picture, text, points=p / size, frame=frame) for text, p in captions.items()]
        )
    save_panels(args.out, panels, f'one cell of stage {args.stage}\n{model.name}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
