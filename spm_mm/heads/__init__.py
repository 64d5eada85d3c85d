"""Heads of the suite's own; the hosts' heads are used from the hosts.

They derive from MMSegmentation's classes: without that host there are none, and all else works.
"""

from importlib.util import find_spec

from spm_mm.registry import import_modules

__all__ = import_modules(__name__, globals()) if find_spec('mmseg') else []
