"""What the tools that draw pictures share on their command lines."""

import argparse
import logging
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger

from spm_mm.engine.complexity import default_shape
from spm_mm.engine.launch import add_config, load_config
from spm_mm.errors import UserError

__all__ = ['PICTURES', 'add_picture_arguments', 'add_place', 'read_picture_arguments']

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp')
PLACES = ('query', 'place')


def add_picture_arguments(parser: argparse.ArgumentParser, source: str, help_text: str) -> None:
    """Config, where the pictures are, where the figure goes, checkpoint and size."""
    add_config(parser)
    parser.add_argument(source, type=Path, help=help_text)
    parser.add_argument('out', metavar='OUT', type=Path, help='file to write; ends in .png')
    parser.add_argument('--checkpoint', help='weights of the model; random ones without it')
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='size to which pictures are brought; default as in get_flops.py',
    )


def add_place(parser: argparse.ArgumentParser, option: str, what: str) -> None:
    """A place in the picture, one of :data:`PLACES`; :func:`read_picture_arguments` checks it."""
    parser.add_argument(
        option,
        nargs=2,
        type=float,
        default=(0.5, 0.5),
        metavar=('X', 'Y'),
        help=f'place of {what}, 0 to 1 from the left and from the top; default the middle',
    )


def read_picture_arguments(args: argparse.Namespace) -> tuple[Config, tuple[int, int], str]:
    """The config, the size, and what a figure says of the weights.

    Raises:
        UserError: If OUT is no .png file, a size is not positive, or a place is outside the picture.
    """
    if args.out.suffix != '.png':
        raise UserError(f'OUT must end in .png, got {args.out}')
    if args.size is not None and min(args.size) < 1:
        raise UserError(f'--size must be positive, got {args.size}')
    for name in PLACES:
        if not all(0 <= share <= 1 for share in getattr(args, name, ())):
            raise UserError(f'--{name} must be from 0 to 1, got {getattr(args, name)}')
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    cfg = load_config(args)
    size = tuple(args.size) if args.size else default_shape(cfg)
    weights = 'random weights' if args.checkpoint is None else Path(args.checkpoint).name
    return cfg, size, f'{Path(args.config).stem}, {weights}'
