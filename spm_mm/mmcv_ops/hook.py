"""The finder that answers ``import mmcv._ext`` where no compiled mmcv does.

The wheel puts a copy of this file into site-packages, and a ``.pth`` file that calls ``install`` at
every start of Python, so this file imports nothing but ``sys``.
"""

import sys


class OperatorFinder:
    """Finds ``mmcv._ext`` in ``spm_mm.mmcv_ops``, and no other module."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """The specification of the stand-in; None for other modules and where spm_mm is gone."""
        if name != 'mmcv._ext':
            return None
        from importlib.util import find_spec, spec_from_file_location

        try:
            stand_in = find_spec('spm_mm.mmcv_ops.extension')
        except ModuleNotFoundError:
            return None
        return stand_in and spec_from_file_location(name, stand_in.origin)


def install() -> None:
    """Let ``import mmcv._ext`` find the operators of ``spm_mm.mmcv_ops``.

    The finder is the last that Python asks: a compiled ``mmcv._ext`` is found before it and is used.
    Calling this twice changes nothing.
    """
    if not any(getattr(f, '__name__', '') == OperatorFinder.__name__ for f in sys.meta_path):
        sys.meta_path.append(OperatorFinder)
