"""What must not happen to a work dir: two runs at once, or the user's config overwritten."""

import os
import socket
from pathlib import Path
from typing import TextIO

from mmengine.config import Config

from spm_mm.errors import UserError

__all__ = ['check_config_is_kept', 'lock_work_dir']

LOCK = '.lock'
_held: dict[Path, TextIO] = {}


def check_config_is_kept(cfg: Config) -> None:
    """Refuse a work dir in which mmengine would write the merged config over the config itself.

    A config that mmengine has written (``work_dirs/X/X.py``) may be written again.

    Raises:
        UserError: If the config's own folder is the work dir.
    """
    if cfg.filename is None:
        return
    file = Path(cfg.filename)
    target = Path(cfg.work_dir, file.name)
    if not target.exists() or not target.samefile(file):
        return
    if file.read_text() != Config.fromfile(file).pretty_text:
        raise UserError(
            f'the work dir {cfg.work_dir!r} is the folder of the config, and training writes its merged'
            f' settings to {target}, over the config: choose another --work-dir'
        )


def lock_work_dir(work_dir: str) -> None:
    """Hold a work dir until this process ends; the file system frees it then, however it ends.

    Raises:
        UserError: If a training run holds it, with that run's process and machine.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        return
    path = Path(work_dir, LOCK).resolve()
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, 'a+')  # noqa: SIM115 (closing it gives the lock back)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        holder = file.read().strip() or 'another process'
        raise UserError(
            f'{holder} trains in the work dir {work_dir}: wait for it, end it, or choose another'
            ' --work-dir'
        ) from error
    except OSError:  # a file system without locks
        file.close()
        return
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    _held[path] = file
