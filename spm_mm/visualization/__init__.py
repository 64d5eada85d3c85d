"""Pictures of what models and mechanisms do."""

from spm_mm.registry import import_modules

__all__ = import_modules(__name__, globals())
