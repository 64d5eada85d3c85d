"""Where the deformable mergings before a cell read in the image, beside the regular grid (LIT,
Figure 2).

A row for each picture: red dots are what is read, the green frame is the cell. The numbers are how
far the places have moved on average and how many lie outside of the frame.
"""

import argparse
from collections.abc import Sequence

import cv2
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

SHARPNESS = 4  # pixels of the figure for one of the picture


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
        panels.append(
            [
                Panel(_draw(picture, found.regular, found.cell), f'{path.name}\nregular grid'),
                Panel(
                    _draw(picture, found.points, found.cell),
                    f'{len(shift)} places, moved by {shift.mean():.1f} pixels\n'
                    f'{outside.any(axis=1).mean():.0%} outside of the cell',
                ),
            ]
        )
    save_panels(args.out, panels, f'one cell of stage {args.stage}\n{model.name}')
    print(f'wrote {args.out}')


def _draw(picture: np.ndarray, points: np.ndarray, cell: tuple[float, ...]) -> np.ndarray:
    large = cv2.resize(picture, None, fx=SHARPNESS, fy=SHARPNESS, interpolation=cv2.INTER_LINEAR)
    corners = [round(side * SHARPNESS) for side in cell]
    cv2.rectangle(large, corners[:2], corners[2:], (0, 200, 0), SHARPNESS)
    for x, y in points * SHARPNESS:
        if abs(x) < 2**15 and abs(y) < 2**15:
            cv2.circle(large, (round(x), round(y)), SHARPNESS, (230, 0, 0), -1, cv2.LINE_AA)
    return large


if __name__ == '__main__':
    run_tool(main)
