"""Effective receptive fields before and after each patch merging, averaged over a folder of pictures.

As in SPM, Figure 5: how strongly each pixel moves the central cell. Brighter is stronger; the scale is
the square root, because the tails are faint.
"""

import argparse

import numpy as np
from rich.progress import track

from spm_mm.engine import PICTURES, add_picture_arguments, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import Panel, load_backbone, read_image, receptive_fields, save_panels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'folder', 'folder of pictures')
    parser.add_argument('--number', type=int, default=16, help='how many pictures at most')
    args = parser.parse_args()
    cfg, size, title = read_picture_arguments(args)
    if args.number < 1:
        raise UserError(f'--number must be at least 1, got {args.number}')
    files = sorted(args.folder.glob('*')) if args.folder.is_dir() else []
    files = [path for path in files if path.suffix.lower() in PICTURES][: args.number]
    if not files:
        raise UserError(f'{args.folder} has no pictures ({", ".join(PICTURES)})')
    backbone = load_backbone(cfg, args.checkpoint)
    names = [f'mergings.{i}' for i in range(len(backbone.mergings))]
    if not names:
        raise UserError(f'the backbone of {args.config} has no merging')
    images = (read_image(path, cfg, size)[1] for path in track(files, 'reading'))
    fields = receptive_fields(backbone, images, names)
    panels = [
        [
            Panel(np.sqrt(before), f'stage {i}, before merging'),
            Panel(np.sqrt(after), f'stage {i}, after {type(backbone.mergings[i - 1]).__name__}'),
        ]
        for i, (before, after) in enumerate(fields.values(), 1)
    ]
    save_panels(args.out, panels, f'effective receptive field, {len(files)} pictures\n{title}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
