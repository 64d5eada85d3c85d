"""The one file that knows versions: reading checkpoints safely, on any torch and mmengine."""

import argparse
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from spm_mm.checkpoint_files import (
    AVERAGED,
    RAW,
    describe,
    find_weights,
    is_safetensors,
    strip_wrappers,
    tensors,
)
from spm_mm.errors import UserError
from spm_mm.weights import SCHEME, download, resolve

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


def _training_types() -> list[Any]:
    """What mmengine and mmcv write into training checkpoints and torch's safe loader does not know."""
    core = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    numbers = [np.dtype(kind) for kind in ('bool', 'int32', 'int64', 'float32', 'float64')]
    allowed = [
        HistoryBuffer,
        (_history_buffer_method, 'builtins.getattr'),
        slice,
        np.ndarray,
        np.dtype,
        *{type(number) for number in numbers},
        # Training scripts of the DeiT family save their parsed arguments beside the weights.
        argparse.Namespace,
    ]
    for name in ('_reconstruct', 'scalar'):
        function = getattr(core, name)
        # numpy 1 and 2 name the same functions differently in the files that they write.
        allowed += [(function, f'numpy.{part}.multiarray.{name}') for part in ('core', '_core')]
    return allowed


def allow_training_checkpoints() -> None:
    """Let torch's safe loader read training checkpoints, in the whole process.

    Since torch 2.6 ``torch.load`` is safe by default and refuses the log buffers in a checkpoint of
    mmengine 0.10, so a run could not resume. This extends torch's allow-list by those buffers, numpy
    arrays and scalars of plain numbers, ``slice``, and, in the place of ``getattr``, a function that
    returns the statistics of ``HistoryBuffer`` alone. The tools call it; importing the package does
    not.
    """
    torch.serialization.add_safe_globals(_training_types())


def load_checkpoint(path: str | Path, map_location: Any = 'cpu') -> Mapping[str, Any]:
    """Read a checkpoint, a file or a URL, with the loader of safetensors or torch's safe one.

    The content decides which, not the name.

    Args:
        path: File, training checkpoints of mmengine included, or URL.
        map_location: Device, or what else :func:`torch.load` takes. Default ``'cpu'``.

    Raises:
        UserError: If there is no such file, or it is no checkpoint that the safe loader reads.
    """
    if str(path).startswith(SCHEME):
        path = resolve(path)
    if '://' in str(path):
        named, path = path, download(str(path))
        name = f'{named} (kept as {path}: remove that to download it again)'
    else:
        name = path = Path(path).expanduser()
    if is_folder(path):
        raise UserError(
            f'checkpoint {path} is a folder: name a file in it, or convert a folder of Hugging Face'
            ' with tools/model_converters/convert.py'
        )
    if not exists(path):
        raise UserError(f'checkpoint {path} does not exist')
    try:
        if is_safetensors(path):
            from safetensors.torch import load_file

            weights = load_file(path)
            if map_location in (None, 'cpu'):
                return weights
            return {name: value.to(map_location) for name, value in weights.items()}
        # Leaving the context would take out what was allowed before, too.
        known = torch.serialization.get_safe_globals()
        more = [kind for kind in _training_types() if kind not in known]
        # Opened here, as some releases of torch choose another loader by the name.
        with torch.serialization.safe_globals(more), path.open('rb') as file:
            checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except Exception as error:
        raise UserError(
            f'checkpoint {name} cannot be read by the safe loader: {reason(error, path)}'
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise UserError(f'checkpoint {name} holds a {type(checkpoint).__name__}, not a dict')
    return checkpoint


def exists(path: Path) -> bool:
    """Whether there is a file of this name; no name is an error."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder of this name; no name is an error."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _asked_for(path: Path) -> list[str]:
    """Names that a bare pickle would import, read off its text: nothing of it is executed."""
    names, texts = [], []
    try:
        for operator, argument, _ in pickletools.genops(path.read_bytes()):
            if isinstance(argument, str):
                texts.append(argument)
            if operator.name == 'GLOBAL':
                names.append(argument.replace(' ', '.'))
            elif operator.name == 'STACK_GLOBAL':
                names.append('.'.join(texts[-2:]))
    except ValueError:
        pass  # what could be read before is enough
    return names


REFUSED = (
    r'(?:Unsupported|unsupported) (?:global|GLOBAL):?(?: GLOBAL)? (?P<name>[\w.]+)',
    r'Trying to call reduce for unrecognized function (?P<name>.+)',
    r'(?:but|as) got (?P<name><.+>)',
    r'asks for (?P<name>getattr\(.*\)), which is not allowed',
)


def reason(error: Exception, path: Path | None = None) -> str:
    """One line on why a checkpoint was refused: the forbidden name if there is one.

    Torch's own text begins with how to switch the safe loader off, which is no advice of ours.

    Args:
        error: What the loader raised.
        path: The file, in which the name is looked for where the error does not say it.
    """
    text = str(error).strip()
    for pattern in REFUSED:
        if found := re.search(pattern, text):
            return f'it asks for {found["name"]}, which could run code'
    if isinstance(error, PermissionError | ConnectionError | URLError):
        return text
    if path is not None and (names := _asked_for(path)):
        return f'it asks for {", ".join(names)}, which could run code'
    if path is not None and (known := describe(path)):
        return f'it is damaged, cut off or no checkpoint ({known})'
    said = text.partition('.')[0].splitlines()
    known = type(error).__name__ if not said or said[0].startswith('Weights only') else said[0]
    return f'it is damaged, cut off or no checkpoint ({known})'


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint.

    They are its ``state_dict``, ``model``, ``module`` or ``net`` entry, an entry of averaged weights
    if there is no other, or all of it. What ``DataParallel`` (``module.``), ``torch.compile``
    (``_orig_mod.``) and training code (``model.``) put into the names is left out.

    Raises:
        UserError: If there is no such file, or it holds no weights.
    """
    try:
        checkpoint = load_checkpoint(path)
    except UserError as error:
        if 'could run code' not in str(error):
            raise
        raise UserError(
            f'{error}; tools/model_converters/rewrite.py writes its tensors alone'
        ) from error
    found = find_weights(checkpoint, (*RAW, *AVERAGED))
    weights = strip_wrappers(found[1] if found else tensors(checkpoint))
    if not weights:
        raise UserError(f'checkpoint {path} holds no weights; its keys are {list(checkpoint)[:5]}')
    return weights


def check_numbers(weights: Mapping[str, Tensor], name: Any) -> None:
    """Refuse weights that no network can run with.

    Args:
        weights: The weights.
        name: What to call them in the message.

    Raises:
        UserError: If an entry holds NaN or infinity.
    """
    broken = not_finite(weights)
    if broken:
        raise UserError(
            f'checkpoint {name} holds NaN or infinity in {len(broken)} of {len(weights)} entries,'
            f' first {broken[0]}: take an earlier checkpoint'
        )


def not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the entries that hold NaN or infinity."""
    return [
        key
        for key, value in weights.items()
        if value.is_floating_point()
        and not value.is_meta
        and not torch.isfinite(value.float()).all()
    ]


def differ(value: Tensor, own: Tensor, resizable: bool = False) -> str | None:
    """Say how an entry of a checkpoint differs from the model's; None if it can be copied.

    Any precision can. The whole numbers of a quantized checkpoint are no weights by themselves.
    """
    if own.is_floating_point() and not value.is_floating_point():
        return f'holds {value.dtype}, the model {own.dtype}'
    if value.shape != own.shape and not resizable:
        return f'is {tuple(value.shape)}, the model has {tuple(own.shape)}'
    return None


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
        f'{key} {difference}'
        for key, value in state_dict.items()
        if key in own and (difference := differ(value, own[key], key in resizable))
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
