"""What runs around a model: launching, and the parts of mmengine's loop that we add."""

from spm_mm.registry import import_modules

__all__ = import_modules(__name__, globals())
