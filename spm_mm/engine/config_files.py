"""What is wrong with a config that mmengine cannot read: which file, which line."""

import os
import re
import traceback
from collections.abc import Sequence

from mmengine.config import Config

__all__ = ['circle_of', 'explain_unread', 'in_a_circle']

READERS = ('_file2dict', '_parse_lazy_import')
HINTS = {
    'import_modules_from_strings': 'custom_imports takes a dict with imports and'
    ' allow_failed_imports',
    r"object has no attribute '(get|startswith|items)'": 'a config must hold a dict whose keys are'
    ' names',
}


def circle_of(file: str, heirs: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Files that inherit from each other in a circle; empty if there is none.

    mmengine goes round until the stack is full, which takes seconds. Whatever else is wrong is told
    when the config is read.

    Args:
        file: A config file.
        heirs: The files that inherit from it.
    """
    file = os.path.realpath(file)
    if file in heirs:
        return (*heirs[heirs.index(file) :], file)
    try:
        bases = [Config._get_cfg_path(base, file)[0] for base in Config._get_base_files(file)]
    except Exception:
        return ()
    return next(filter(None, (circle_of(base, (*heirs, file)) for base in bases)), ())


def explain_unread(config: str, error: Exception) -> str:
    """The files that were being read, the line of the last, and what mmengine says.

    Args:
        config: The config file.
        error: What reading it raised.
    """
    files, base, line = [], '', None
    for frame, number in traceback.walk_tb(error.__traceback__):
        name, given = frame.f_code.co_name, frame.f_locals
        if name in READERS:
            files.append(os.path.abspath(given['filename']))
            line = None
        elif name == '_get_cfg_path':
            base = f'_base_ {given["cfg_path"]!r}'
        elif files and frame.f_code.co_filename == files[-1]:
            line = number
    again = next((i for i, file in enumerate(files) if file in files[:i]), None)
    if isinstance(error, RecursionError) and again is not None:
        return in_a_circle(files[files.index(files[again]) : again + 1])
    said, text = ' '.join(str(error).split()), ''
    if isinstance(error, SyntaxError):
        line, said, text = error.lineno, error.msg, (error.text or '').strip()
    where = f'config {", which inherits from ".join(files or [config])}'
    where += f', line {line}' if line else ''
    hints = [hint for pattern, hint in HINTS.items() if re.search(pattern, said)]
    return ': '.join(filter(None, [where, base, f'{type(error).__name__}: {said}', text, *hints]))


def in_a_circle(files: Sequence[str]) -> str:
    """Say that configs inherit from each other."""
    return f'_base_ goes in a circle: {" -> ".join(files)}'
