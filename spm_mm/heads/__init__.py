"""Heads of the suite's own; the frameworks' heads are used from the frameworks.

They derive from MMSegmentation's classes. Without that framework there are none, and all else works;
one that is installed but cannot be imported is a warning.
"""

import warnings
from importlib.util import find_spec

from spm_mm.registry import import_modules

__all__: list[str] = []
if find_spec('mmseg'):
    try:
        __all__ = import_modules(__name__, globals())
    except Exception as error:  # whatever a broken installation raises
        warnings.warn(
            f'MMSegmentation cannot be imported, so spm_mm has no heads:'
            f' {type(error).__name__}: {error}',
            stacklevel=2,
        )
