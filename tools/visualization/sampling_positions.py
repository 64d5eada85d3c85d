"""Where the deformable mergings before a cell read in the image, beside the regular grid (LIT, Figure
2): red dots are what is read, the green frame is the cell.
"""

import argparse

import cv2
import numpy as np

from spm_mm.engine import add_picture_arguments, add_place, read_picture_arguments, run_tool
from spm_mm.visualization import Panel, load_backbone, read_image, sampled_pixels, save_panels

SHARPNESS = 4  # pixels of the figure for one of the picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'image', 'picture')
    parser.add_argument('--stage', type=int, default=4, help='stage of the cell, 2 to 4')
    add_place(parser, '--place', 'the cell')
    args = parser.parse_args()
    cfg, size, title = read_picture_arguments(args)
    backbone = load_backbone(cfg, args.checkpoint)
    picture, image = read_image(args.image, cfg, size)
    found = sampled_pixels(backbone, image, args.stage, tuple(args.place))
    outside = np.mean((found.points < 0) | (found.points > size[::-1]), axis=0).max()
    shift = np.linalg.norm(found.points - found.regular, axis=1)
    panels = [
        Panel(_draw(picture, found.regular, found.cell), f'regular grid, {len(shift)} places'),
        Panel(
            _draw(picture, found.points, found.cell),
            f'sampled, moved by {shift.mean():.1f} pixels\non average, {outside:.0%} outside',
        ),
    ]
    save_panels(args.out, [panels], f'one cell of stage {args.stage}\n{title}')
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
