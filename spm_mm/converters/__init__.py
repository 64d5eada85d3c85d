"""Official checkpoints to ours: one file a source, all reached through :func:`get_converter`."""

from spm_mm.converters.base import Conversion, Converter, Twin, converters, get_converter
from spm_mm.registry import import_modules

import_modules(__name__, globals())

__all__ = ['Conversion', 'Converter', 'Twin', 'converters', 'get_converter']
