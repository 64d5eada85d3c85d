"""Our counterparts of the official models, one file for each official code base."""

from spm_mm.registry import import_modules
from tests.parity.twins.base import OFFICIAL_CODE, OfficialCode, Twin

import_modules(__name__, globals())

__all__ = ['OFFICIAL_CODE', 'OfficialCode', 'Twin']
