"""spm_mm: patch merging and token attention of hierarchical vision transformers.

In Python::

    import spm_mm

    spm_mm.list_models('pvt*')
    net = spm_mm.create_model('pvt_tiny', merging='stepwise')

In a config of MMDetection, MMSegmentation or MMPretrain, where everything is registered under the
scope ``spm_mm``, ``type='spm_mm.PVT'`` is enough; no import is needed.
"""

import importlib
from typing import TYPE_CHECKING, Any

from spm_mm import mmcv_ops, renamed

if TYPE_CHECKING:
    from spm_mm.models import create_model, list_models

__all__ = ['create_model', 'list_models']

__version__ = '0.2.0'

mmcv_ops.install()
renamed.install()


def __getattr__(name: str) -> Any:
    # At the first use: importing the package must stay light, and never need a framework.
    if name in __all__:
        return getattr(importlib.import_module('spm_mm.models'), name)
    if name[:1].isupper():  # a class: `from spm_mm import PVT`
        for package in ('backbones', 'merging', 'necks'):
            module = importlib.import_module(f'spm_mm.{package}')
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
