"""What the tools that draw pictures share on their command lines."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from spm_mm.engine.launch import add_config, load_config
from spm_mm.errors import UserError

__all__ = ['DrawnModel', 'add_picture_arguments', 'add_place', 'read_picture_arguments']

PLACES = ('query', 'place')


@dataclass(frozen=True)
class DrawnModel:
    """A model of a figure: its config, and the checkpoint with its weights or None."""

    cfg: Config
    checkpoint: str | None
    name: str
    """What the figure calls it. Default: the config's name and the checkpoint's."""


def add_picture_arguments(
    parser: argparse.ArgumentParser,
    source: str,
    help_text: str,
    out: str = '.png',
    beside: bool = True,
) -> None:
    """Config, where the pictures are, where the figure goes, checkpoint, size and device.

    Args:
        parser: Parser of the tool.
        source: Name of the argument for the pictures; '' where the tool needs none.
        help_text: What the pictures are.
        out: What OUT must end in.
        beside: Whether the figure can hold other models, too.
    """
    add_config(parser)
    if source:
        parser.add_argument(source, type=Path, help=help_text)
        parser.add_argument(
            '--size',
            nargs=2,
            type=int,
            metavar=('H', 'W'),
            help='scale pictures to cover this size and crop the centre; default: the test pipeline'
            ' of the config',
        )
    parser.add_argument('out', metavar='OUT', type=Path, help=f'file to write; ends in {out}')
    parser.add_argument('--checkpoint', help='weights of the model; random ones without it')
    if beside:
        parser.add_argument(
            '--beside',
            nargs='+',
            action='append',
            default=[],
            metavar=('CONFIG', 'CHECKPOINT'),
            help='another config, and its weights, in the same figure; may be repeated',
        )
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--device', default=default, help=f'default: {default}')
    parser.add_argument(
        '--names', nargs='+', metavar='NAME', help='what the figure calls the models'
    )
    parser.set_defaults(suffix=out)


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


def read_picture_arguments(args: argparse.Namespace) -> list[DrawnModel]:
    """The models to draw: that of CONFIG, then those of ``--beside``.

    Raises:
        UserError: If OUT has another suffix, a size is not positive, there is no such device, a place
            is outside the picture, or ``--names`` has not one name for each model.
    """
    if args.out.suffix != args.suffix:
        raise UserError(f'OUT must end in {args.suffix}, got {args.out}')
    if getattr(args, 'size', None) is not None and min(args.size) < 1:
        raise UserError(f'--size must be positive, got {args.size}')
    if getattr(args, 'number', 1) is not None and getattr(args, 'number', 1) < 1:
        raise UserError(f'--number must be at least 1, got {args.number}')
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'--device {args.device} is not available: {reason}') from error
    for name in PLACES:
        if not all(0 <= share <= 1 for share in getattr(args, name, ())):
            raise UserError(f'--{name} must be from 0 to 1, got {getattr(args, name)}')
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    models: list[DrawnModel] = []
    pairs: Sequence[Sequence[str]] = [
        [args.config, *([args.checkpoint] if args.checkpoint else [])],
        *getattr(args, 'beside', ()),
    ]
    if args.names and len(args.names) != len(pairs):
        raise UserError(f'--names takes {len(pairs)}, one for each model, got {args.names}')
    for number, (config, *checkpoint) in enumerate(pairs):
        if len(checkpoint) > 1:
            raise UserError(f'--beside takes CONFIG and CHECKPOINT, got also {checkpoint[1:]}')
        cfg = load_config(argparse.Namespace(**{**vars(args), 'config': config}))
        weights = Path(checkpoint[0]).name if checkpoint else 'random weights'
        name = args.names[number] if args.names else f'{Path(config).stem}, {weights}'
        models.append(DrawnModel(cfg, checkpoint[0] if checkpoint else None, name))
    return models
