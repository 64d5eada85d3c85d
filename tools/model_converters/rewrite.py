"""Re-write a checkpoint that the safe loader refuses: its tensors alone, as .safetensors.

The file is read in a process of its own, and nothing that it names is run. Names of tensors stay.
"""

import argparse
from pathlib import Path

from spm_mm.checkpoint_files import check_output
from spm_mm.converters import read_checkpoint, write_weights
from spm_mm.engine import run_tool
from spm_mm.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', metavar='IN', type=Path, help='.pth, .bin or .ckpt file')
    parser.add_argument('output', metavar='OUT', type=Path, help='file to write, .safetensors')
    parser.add_argument(
        '--ema',
        action=argparse.BooleanOptionalAction,
        help='take the averaged weights, or the raw ones; default: raw ones if there are any',
    )
    args = parser.parse_args()
    if args.output.suffix != '.safetensors':
        raise UserError(f'OUT must end in .safetensors, got {args.output}')
    check_output(args.input, args.output)
    weights = read_checkpoint(args.input)
    for note in weights.notes:
        print(note)
    tensors, which = weights.choose(args.ema)
    write_weights(tensors, args.output, str(args.input.name))
    print(f'wrote {args.output}: {len(tensors)} tensors; {which}')


if __name__ == '__main__':
    run_tool(main)
