"""Make a small file of a training checkpoint that anyone, the frameworks' inferencers too, can load.

It keeps the weights (the averaged ones where the run kept them) and plain facts about the run: no
optimizer, no logs, nothing that torch's safe loader refuses. A model card is written beside it.
"""

import argparse
import hashlib
import io
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from spm_mm.checkpoint_files import check_output, strip_wrappers, tensors
from spm_mm.compat import check_numbers, load_checkpoint
from spm_mm.engine import logged_figures, run_tool, whole_file, write_model_card
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
    if not args.hash:
        check_output(args.input, args.output)
    checkpoint = load_checkpoint(args.input)
    if not isinstance(checkpoint.get('state_dict'), Mapping):
        raise UserError(f'{args.input} is no training checkpoint: it has no state_dict')
    # Of a run with EMAHook these are the averaged ones: mmengine exchanges them when it saves.
    # Cloned, as a view would bring along the whole tensor that it is of.
    weights = {
        key: value.clone(memory_format=torch.contiguous_format)
        for key, value in strip_wrappers(tensors(checkpoint['state_dict'])).items()
    }
    if not weights:
        raise UserError(f'{args.input} has an empty state_dict: there is nothing to publish')
    check_numbers(weights, args.input)
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    meta = {key: plain(value) for key, value in meta.items() if key in META}
    content = io.BytesIO()
    torch.save({'state_dict': weights, 'meta': meta}, content)
    output = args.output
    if args.hash:
        digest = hashlib.sha256(content.getbuffer()).hexdigest()[:8]
        output = output.with_stem(f'{output.stem}-{digest}')
    with whole_file(output) as partial:
        partial.write_bytes(content.getbuffer())
    contents = 'averaged weights (EMA)' if 'ema_state_dict' in checkpoint else 'weights'
    command = shlex.join(['python', *sys.argv])
    card = write_model_card(output, meta, contents, command, logged_figures(checkpoint))
    size = output.stat().st_size / 2**20
    print(f'wrote {output}, {size:.1f} MiB of {contents}, and {card}')


if __name__ == '__main__':
    run_tool(main)
