"""Comparing runs that differ in one thing (a merging, a backbone, any key) over several seeds.

``tools/compare.py`` is made of these modules. :mod:`~spm_mm.compare.results` reads what a comparison
has produced, as a dict. This module imports nothing: a run of a comparison needs
:mod:`~spm_mm.compare.hook` alone.
"""
