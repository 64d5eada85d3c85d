import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

__all__ = ['AtomicLocalBackend', 'write_files_whole']


class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files, but a file appears whole or not at all.

    mmengine writes a checkpoint under its final name, so a run that is killed meanwhile leaves half of
    one, which looks like the newest. Here it is written beside that name first, and renamed.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        partial = f'{filepath}.part'
        super().put(obj, partial)
        with open(partial, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(partial, filepath)


def write_files_whole() -> None:
    """Make :class:`AtomicLocalBackend` the one that mmengine uses for local paths."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
