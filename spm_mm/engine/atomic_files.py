"""Files that appear whole or not at all, whatever ends the program that writes them."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from spm_mm.errors import UserError

__all__ = ['AtomicLocalBackend', 'whole_file', 'write_files_whole']


# How torch and safetensors tell of a full disk.
FAILED_WRITE = re.compile('iostream error|PytorchStreamWriter|unexpected pos|I/O error')


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``, which becomes ``path`` if nothing fails meanwhile.

    Raises:
        UserError: If the file cannot be written: no place on the disk, no permission.

    Example:
        >>> with whole_file('weights.pth') as partial:
        ...     torch.save(weights, partial)
    """
    path = Path(path)
    partial = path.with_name(f'{path.name}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) or FAILED_WRITE.search(str(error)):
            why = getattr(error, 'strerror', None) or 'is the disk full?'
            raise UserError(f'{path} cannot be written: {why}') from error
        raise


class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files, but no file is ever half there.

    mmengine writes a checkpoint under its final name, and first removes the one that it replaces
    (``max_keep_ckpts``): a run that is killed in between leaves half a checkpoint, or none. Here a file
    is written beside its name and renamed, and a removed ``.pth`` file stays until then.
    """

    _outdated: list[str] = []

    def put(self, obj: bytes, filepath: str | Path) -> None:
        with whole_file(filepath) as partial:
            super().put(obj, partial)
        while self._outdated:
            outdated = self._outdated.pop()
            if os.path.abspath(outdated) != os.path.abspath(filepath):
                super().remove(outdated)

    def remove(self, filepath: str | Path) -> None:
        if Path(filepath).suffix == '.pth' and self.isfile(filepath):
            self._outdated.append(str(filepath))
        else:
            super().remove(filepath)


def write_files_whole() -> None:
    """Make :class:`AtomicLocalBackend` the one that mmengine uses for local paths."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
