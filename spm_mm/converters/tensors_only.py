"""Read the tensors and plain values of a pickled checkpoint, and run nothing that it names.

Training scripts pickle objects of their own beside the weights: parsed arguments, config nodes, numpy
numbers, log buffers. Torch's safe loader refuses such a file. :func:`read_tensors_only` re-writes it in
a process of its own, where every name in the file but those of :data:`ALLOWED` stands for an object
that ignores whatever is done to it. The result holds dicts, lists, strings, numbers and tensors alone.
"""

import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ['read_tensors_only']


# Run as a script, this file's folder would come first in the search for modules.
RUN = 'import runpy, sys; runpy.run_path(sys.argv[1], run_name="__main__")'


class Ignored:
    """Stands for anything that the file names and that is not allowed: takes all, does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> 'Ignored':
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> 'Ignored':
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...


def _tensor(storage: Any, offset: int, size: tuple, stride: tuple, *rest: Any) -> Tensor:
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _data(data: Tensor, *rest: Any) -> Tensor:
    return data


ALLOWED = {
    # The dict that a state dict is.
    'collections.OrderedDict': OrderedDict,
    # A tensor as a view of its storage; what else was attached to it (hooks, flags) is left out.
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    # Parameters, as the tensors that they hold.
    'torch._utils._rebuild_parameter': _data,
    'torch._utils._rebuild_parameter_with_state': _data,
    # Plain containers of numbers.
    'torch.Size': torch.Size,
    'builtins.set': set,
    '__builtin__.set': set,
}


class Unpickler(pickle.Unpickler):
    """Finds the names of :data:`ALLOWED` and the types of storages; any other is :class:`Ignored`."""

    def find_class(self, module: str, name: str) -> Any:
        if module == 'torch' and name.endswith('Storage') and name.isalpha():
            return getattr(torch, name, Ignored)
        return ALLOWED.get(f'{module}.{name}', Ignored)


def _load(file: Any, **options: Any) -> Any:
    return Unpickler(file, **options).load()


def plain(value: Any) -> Any:
    """The value with nothing in it but dicts, lists, strings, numbers and tensors; the rest is None."""
    if isinstance(value, dict):
        return {
            key: plain(item) for key, item in value.items() if isinstance(key, str | int | float)
        }
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | Tensor) else None


def rewrite(source: str, target: str) -> None:
    """Write the plain part of a checkpoint to a file that torch's safe loader reads."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            if any(name.endswith('/constants.pkl') for name in archive.namelist()):
                raise ValueError('it is a TorchScript archive, not a checkpoint')
    elif tarfile.is_tarfile(source):
        raise ValueError('it is a tar file, as torch before 0.2 wrote them')
    reader = types.SimpleNamespace(
        __name__='tensors_only', Unpickler=Unpickler, load=_load, UnpicklingError=pickle.UnpicklingError
    )  # fmt: skip
    # Not torch's safe unpickler but the one above, which allows less.
    with open(source, 'rb') as file:
        content = torch.load(file, map_location='cpu', pickle_module=reader, weights_only=False)
    torch.save(plain(content), target)


def read_tensors_only(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that the safe loader refuses, without running anything that it names.

    Args:
        path: The checkpoint.

    Returns:
        Its dicts, lists, strings, numbers and tensors; other objects are None.

    Raises:
        ValueError: If it is no checkpoint; the message is the last line of what the process said.
    """
    environment = {k: v for k, v in os.environ.items() if k != 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / 'plain.pth'
        # Two paths as arguments of this file, no shell.
        done = subprocess.run(  # noqa: S603
            [sys.executable, '-c', RUN, __file__, str(path), str(target)],
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise ValueError(said[-1] if said else f'the process ended with {done.returncode}')
        content = torch.load(target, map_location='cpu', weights_only=True)
    return content if isinstance(content, dict) else {}


if __name__ == '__main__':
    rewrite(*sys.argv[2:])
