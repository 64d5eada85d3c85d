"""Necks of the suite's own; the frameworks' FPN and the like are used from the frameworks."""

from spm_mm.registry import import_modules

__all__ = import_modules(__name__, globals())
