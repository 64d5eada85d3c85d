"""Make of a training checkpoint a small file that anyone, the hosts' inferencers too, can load.

It keeps the weights (the averaged ones where the run kept them) and plain facts about the run: no
optimizer, no logs, nothing that torch's safe loader refuses.
"""

import argparse
import hashlib
import os
from pathlib import Path

import torch

from spm_mm.compat import allow_training_checkpoints, load_checkpoint
from spm_mm.engine import run_tool
from spm_mm.errors import UserError

PLAIN = (str, int, float, bool, type(None))
META = (
    'epoch',
    'iter',
    'seed',
    'experiment_name',
    'mmengine_version',
    'time',
    'dataset_meta',
    'cfg',
)


def plain(value: object) -> object:
    """The value with nothing in it but plain Python: what is not, is left out."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, PLAIN) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', metavar='IN', type=Path, help='training checkpoint')
    parser.add_argument('output', metavar='OUT', type=Path, help='file to write; ends in .pth')
    parser.add_argument(
        '--hash', action='store_true', help='put 8 digits of the SHA-256 into the name'
    )
    args = parser.parse_args()
    if args.output.suffix != '.pth':
        raise UserError(f'OUT must end in .pth, got {args.output}')
    allow_training_checkpoints()
    checkpoint = load_checkpoint(args.input)
    if 'state_dict' not in checkpoint:
        raise UserError(f'{args.input} is no training checkpoint: it has no state_dict')
    weights = checkpoint['state_dict']
    if 'ema_state_dict' in checkpoint:
        averaged = {
            key.removeprefix('module.'): value
            for key, value in checkpoint['ema_state_dict'].items()
            if key.startswith('module.')
        }
        weights = {key: averaged.get(key, value) for key, value in weights.items()}
    meta = {key: plain(value) for key, value in checkpoint.get('meta', {}).items() if key in META}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    partial = args.output.with_suffix('.part')
    torch.save({'state_dict': {k: v.cpu() for k, v in weights.items()}, 'meta': meta}, partial)
    output = args.output
    if args.hash:
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()[:8]
        output = output.with_stem(f'{output.stem}-{digest}')
    os.replace(partial, output)
    print(f'wrote {output}, {output.stat().st_size / 2**20:.1f} MiB')


if __name__ == '__main__':
    run_tool(main)
