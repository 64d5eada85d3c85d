"""Necks of the suite's own; the hosts' FPN and the like are used from the hosts."""

from spm_mm.registry import import_modules

__all__ = import_modules(__name__, globals())
