"""Backbones: one file a family on top of :mod:`spm_mm.backbones.hierarchical`."""

from spm_mm.registry import import_modules

__all__ = import_modules(__name__, globals())
