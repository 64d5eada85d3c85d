"""Turn a checkpoint of others into ours: a classifier, a backbone, a whole detector or segmentor.

The source is found by the keys. Whatever was not simply renamed is reported.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from spm_mm.checkpoint_files import check_output
from spm_mm.converters import (
    convert_checkpoint,
    converters,
    fit_to_model,
    read_checkpoint,
    write_weights,
)
from spm_mm.engine import run_tool
from spm_mm.errors import UserError


def parse_args() -> argparse.Namespace:
    known = '\n'.join(f'  {name}: {c.description}' for name, c in sorted(converters.items()))
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f'sources:\n{known}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'words',
        metavar='[SOURCE] IN OUT',
        nargs='+',
        help='IN: .pth, .bin, .ckpt or .safetensors file, or a folder of Hugging Face with config.json.'
        ' OUT: .pth or .safetensors file. SOURCE: as --source',
    )
    parser.add_argument(
        '--source', help='name of the source, see below; default: found by the keys'
    )
    parser.add_argument(
        '--ema',
        action=argparse.BooleanOptionalAction,
        help='take the averaged weights, or the raw ones; default: those that there are, of both the'
        " raw ones, but SG-Former's averaged ones",
    )
    parser.add_argument(
        '--config', metavar='FILE', help='make sure that the model of this config loads the result'
    )
    parser.add_argument(
        '--drop-heads',
        action='store_true',
        help='leave out layers that have another number of classes than the config',
    )
    parser.add_argument(
        '--partial',
        action='store_true',
        help='write the file although keys are missing, unexpected, or not finite',
    )
    args = parser.parse_args()
    if len(args.words) not in (2, 3):
        parser.error(f'IN and OUT are needed, and perhaps SOURCE before them; got {args.words}')
    *source, args.input, args.output = args.words
    args.source = args.source or (source[0] if source else None)
    args.input, args.output = Path(args.input), Path(args.output)
    return args


def build(path: str) -> torch.nn.Module:
    """The model of a config, without memory for its weights."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with torch.device('meta'):
        return MODELS.build(cfg.model)


def main() -> None:
    args = parse_args()
    if args.output.suffix not in ('.pth', '.safetensors'):
        raise UserError(f'OUT must end in .pth or .safetensors, got {args.output}')
    check_output(args.input, args.output)
    weights = read_checkpoint(args.input)
    for note in weights.notes:
        print(note)
    converted = convert_checkpoint(weights, args.source, args.ema)
    print(f'found: {converted.found}\n{converted.conversion.report()}')
    if not (converted.complete or args.partial):
        raise UserError(
            'keys are missing or unexpected, or hold NaN or infinity, as listed above: nothing was'
            ' written; --partial writes it'
        )
    ours = dict(converted.conversion.state_dict)
    if args.config:
        for key in fit_to_model(ours, build(args.config), args.drop_heads):
            print(f'left out: {key}')
        print(f'{args.config} loads it')
    if converted.note:
        print(f'note: {converted.note}')
    write_weights(ours, args.output, converted.source)
    print(f'wrote {args.output}')


if __name__ == '__main__':
    run_tool(main)
