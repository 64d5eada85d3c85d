"""What a file is by its content, and where the weights are in what was read from it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spm_mm.errors import UserError

__all__ = [
    'check_output',
    'describe',
    'find_weights',
    'is_safetensors',
    'strip_wrappers',
    'tensors',
]

RAW = (
    'state_dict',
    'model',
    'model_state_dict',
    'model_state',
    'module',
    'net',
    'network',
    'student',
    'params',
    'weights',
)
AVERAGED = (
    'state_dict_ema',
    'model_ema',
    'ema_state_dict',
    'model_ema_state_dict',
    'ema',
    'params_ema',
    'teacher',
)
WRAPPERS = ('module.', 'model.', 'net.')
"""What data parallel and training code put before every key."""
COMPILED = '_orig_mod.'
"""What ``torch.compile`` puts before the keys of the module that it wraps, anywhere in a name."""
STARTS = (
    (b'version https://git-lfs', 'a pointer of Git LFS: `git lfs pull` fetches the file itself'),
    (b'<', 'a web page or XML'),
    (b'{', 'JSON; for a sharded checkpoint of Hugging Face, name its folder'),
    (b'\x1f\x8b', 'compressed with gzip: decompress it first'),
)
LARGEST_HEADER = 100_000_000
"""In bytes, as the safetensors library allows."""


def check_output(source: Path, output: Path) -> None:
    """Refuse to write over the file, or into the folder's file, that is read.

    Raises:
        UserError: With both names.
    """
    if not output.exists():
        return
    same = output.samefile(source) if source.exists() else False
    if same or (source.is_dir() and output.parent.samefile(source)):
        raise UserError(
            f'OUT, {output}, would replace what is read, {source}: give OUT another name or folder'
        )


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as a safetensors file does, whatever its name ends in."""
    with path.open('rb') as file:
        start = file.read(9)
    return start[8:] == b'{' and int.from_bytes(start[:8], 'little') <= LARGEST_HEADER


def describe(path: Path) -> str | None:
    """What a file that is no checkpoint is instead; None if its content does not tell."""
    with path.open('rb') as file:
        start = file.read(512)
    if not start:
        return 'an empty file'
    if start[257:262] == b'ustar':
        return 'a tar file, as torch before 0.2 wrote them'
    if start.startswith(b'PK'):
        if not zipfile.is_zipfile(path):
            return 'its end is missing'
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith('/constants.pkl') for name in names):
            return "a TorchScript archive: save the model's state_dict instead"
        if not any(name.endswith('data.pkl') for name in names):
            return 'a zip archive without data.pkl: unpack it'
    return next((what for begin, what in STARTS if start.lstrip().startswith(begin)), None)


def find_weights(
    content: Mapping[Any, Any], names: tuple[str, ...]
) -> tuple[str, dict[str, Tensor]] | None:
    """Find the first of the named entries that holds weights, directly or in an entry of its own.

    Returns:
        The entry's name, ``'model.state_dict'`` if it is inside another, and its weights; None if
        none has weights.
    """
    for name in names:
        entry = content.get(name)
        if not isinstance(entry, Mapping):
            continue
        if weights := tensors(entry):
            return name, weights
        if inner := find_weights(entry, names):
            return f'{name}.{inner[0]}', inner[1]
    return None


def tensors(entry: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a dict that have a name; arrays of numpy become tensors."""
    found = {}
    for key, value in entry.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in 'fiub':
            value = torch.from_numpy(value)
        if isinstance(key, str) and isinstance(value, Tensor):
            found[key] = value
    return found


def strip_wrappers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without what wrappers put before every key."""
    weights = {
        key.replace(COMPILED, ''): value
        for key, value in weights.items()
        if key not in ('steps', 'n_averaged')
    }
    while prefix := next(
        (p for p in WRAPPERS if weights and all(k.startswith(p) for k in weights)), None
    ):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights
