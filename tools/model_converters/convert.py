"""Turn an official checkpoint into one of ours and report every key that was not just renamed."""

import argparse
from pathlib import Path

import torch

from spm_mm.compat import load_weights
from spm_mm.converters import converters, get_converter
from spm_mm.engine import run_tool
from spm_mm.errors import UserError


def parse_args() -> argparse.Namespace:
    known = '\n'.join(f'  {name}: {c.description}' for name, c in converters.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f'sources:\n{known}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('source', metavar='SOURCE', help='which code base, see below')
    parser.add_argument('input', metavar='IN', type=Path, help='.pth or .safetensors file')
    parser.add_argument('output', metavar='OUT', type=Path, help='.pth or .safetensors file')
    parser.add_argument(
        '--partial',
        action='store_true',
        help='write the file although keys are missing or unexpected',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.output.suffix not in ('.pth', '.safetensors'):
        raise UserError(f'OUT must end in .pth or .safetensors, got {args.output}')
    converter = get_converter(args.source)
    official = load_weights(args.input)
    conversion = converter.convert(official, converter.model_for(official))
    print(conversion.report())
    if (conversion.missing or conversion.unexpected) and not args.partial:
        raise UserError('keys are missing or unexpected, nothing was written; --partial writes it')
    weights = {name: tensor.contiguous() for name, tensor in conversion.state_dict.items()}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if args.output.suffix == '.safetensors':
        from safetensors.torch import save_file

        save_file({name: tensor.clone() for name, tensor in weights.items()}, args.output)
    else:
        torch.save({'state_dict': weights, 'meta': {'source': args.source}}, args.output)
    print(f'wrote {args.output}')


if __name__ == '__main__':
    run_tool(main)
