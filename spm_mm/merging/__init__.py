"""Patch mergings: how the map of one stage becomes the smaller map of the next."""

from spm_mm.registry import import_modules

__all__ = import_modules(__name__, globals())
