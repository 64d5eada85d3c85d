"""The one file that knows versions: reading checkpoints safely, on any torch and mmengine."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from spm_mm.errors import UserError

__all__ = [
    'allow_training_checkpoints',
    'check_state_dict',
    'load_checkpoint',
    'load_weights',
    'reason',
]


STATISTICS = ('min', 'max', 'current', 'mean')


def _history_buffer_method(owner: type, name: str) -> Any:
    """All that ``getattr`` is needed for in a training checkpoint: a statistic of HistoryBuffer."""
    if owner is HistoryBuffer and name in STATISTICS:
        return vars(HistoryBuffer)[name]
    raise TypeError(f'a checkpoint asks for getattr({owner!r}, {name!r}), which is not allowed')


def allow_training_checkpoints() -> None:
    """Let the safe loader read what mmengine itself writes into a training checkpoint.

    Since torch 2.6 ``torch.load`` is safe by default and refuses the log buffers in a checkpoint of
    mmengine 0.10, so a run could not resume. This extends torch's allow-list, for the whole process,
    by those buffers, numpy arrays and scalars of plain numbers, ``slice``, and, in the place of
    ``getattr``, a function that hands out the statistics of ``HistoryBuffer`` alone. The tools call
    it; the import of the package does not.
    """
    core = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    numbers = [np.dtype(kind) for kind in ('bool', 'int32', 'int64', 'float32', 'float64')]
    allowed = [
        HistoryBuffer,
        (_history_buffer_method, 'builtins.getattr'),
        slice,
        np.ndarray,
        np.dtype,
        *{type(number) for number in numbers},
    ]
    for name in ('_reconstruct', 'scalar'):
        function = getattr(core, name)
        # numpy 1 and 2 name the same functions differently in the files that they write.
        allowed += [(function, f'numpy.{part}.multiarray.{name}') for part in ('core', '_core')]
    torch.serialization.add_safe_globals(allowed)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, a file or a URL, with the safe loaders: ``.safetensors``, else torch's.

    Raises:
        ValueError: If there is no such file, or it is no checkpoint that the safe loader reads.
    """
    if '://' in str(path):
        return _download(str(path))
    path = Path(path)
    if not path.is_file():
        raise UserError(f'checkpoint {path} does not exist')
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            return load_file(path)
        # Training scripts of the DeiT family save their parsed arguments beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        raise UserError(
            f'checkpoint {path} cannot be read by the safe loader: {reason(error)}'
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise UserError(f'checkpoint {path} holds a {type(checkpoint).__name__}, not a dict')
    return dict(checkpoint)


def _download(url: str) -> dict[str, Any]:
    try:
        return torch.hub.load_state_dict_from_url(url, map_location='cpu', weights_only=True)
    except Exception as error:
        raise UserError(f'checkpoint {url} cannot be loaded: {reason(error)}') from error


def reason(error: Exception) -> str:
    """One line of what torch says of a file that it refuses, the forbidden name if there is one."""
    text = str(error)
    if found := re.search(r'Unsupported (?:global|operand|class).*|.* is not allowed', text):
        return found[0].split(' was not an allowed')[0].strip()
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint: its ``state_dict`` or ``model`` entry, or all of it.

    Raises:
        ValueError: If there is no such file, or it holds no weights.
    """
    checkpoint = load_checkpoint(path)
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    weights = {
        name.removeprefix('module.'): value
        for name, value in checkpoint.items()
        if isinstance(value, Tensor)
    }
    if not weights:
        raise UserError(f'checkpoint {path} holds no weights; its keys are {list(checkpoint)[:5]}')
    return weights


def check_state_dict(module: nn.Module, state_dict: Mapping[str, Tensor], name: Any) -> list[str]:
    """Check that weights belong to a module before anything of it is overwritten.

    Modules may list parameters that adapt to another shape on loading in ``resizable_keys``.

    Args:
        module: Module that the weights are meant for.
        state_dict: The weights, with the module's own names.
        name: What to call the weights in the message.

    Returns:
        Names of the module's entries that the weights do not hold.

    Raises:
        ValueError: If an entry is unknown to the module or has another shape, or none is known.
    """
    own = module.state_dict()
    resizable = {
        f'{prefix}.{key}' if prefix else key
        for prefix, part in module.named_modules()
        for key in getattr(part, 'resizable_keys', ())
    }
    unknown = [key for key in state_dict if key not in own]
    differing = [
        f'{key} is {tuple(value.shape)}, the model has {tuple(own[key].shape)}'
        for key, value in state_dict.items()
        if key in own and key not in resizable and value.shape != own[key].shape
    ]
    if unknown or differing:
        lines = [f'{key} is unknown to the model' for key in unknown] + differing
        more = f' and {len(lines) - 3} more' if len(lines) > 3 else ''
        raise UserError(
            f'checkpoint {name} belongs to another model than this {type(module).__name__}'
            f' ({len(state_dict) - len(unknown) - len(differing)} of {len(state_dict)} entries fit):'
            f' {"; ".join(lines[:3])}{more}'
        )
    return [key for key in own if key not in state_dict]
