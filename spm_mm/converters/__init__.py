"""Convert checkpoints of other code bases, with one file for each source."""

from spm_mm.converters.base import Conversion, Converter, converters, get_converter
from spm_mm.registry import import_modules

import_modules(__name__, globals())

from spm_mm.converters.convert import (  # noqa: E402
    Converted,
    convert_checkpoint,
    fit_to_model,
    write_weights,
)
from spm_mm.converters.read import Weights, read_checkpoint  # noqa: E402

__all__ = [
    'Conversion',
    'Converted',
    'Converter',
    'Weights',
    'convert_checkpoint',
    'converters',
    'fit_to_model',
    'get_converter',
    'read_checkpoint',
    'write_weights',
]
