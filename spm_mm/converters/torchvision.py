"""torchvision: ``swin_t``, ``swin_s`` and ``swin_b``."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spm_mm.backbones import SwinTransformer
from spm_mm.converters.swin import TABLE, SwinConverter

STAGE = r'features\.([1357])\.(\d+)'
MLP = {'0': 'fc1', '3': 'fc2'}


def _block(match: re.Match) -> str:
    return f'stages.{int(match[1]) // 2}.blocks.{match[2]}'


class TorchvisionSwinConverter(SwinConverter):
    """Stages and mergings take turns in one list."""

    source = 'torchvision-swin'
    description = 'torchvision, Swin'
    rules = (
        (r'features\.0\.0\.(\w+)', lambda m: f'stem.conv.{m[1]}'),
        (r'features\.0\.2\.(\w+)', lambda m: f'stem.norm.{m[1]}'),
        (r'features\.([246])\.(.+)', lambda m: f'mergings.{int(m[1]) // 2 - 1}.{m[2]}'),
        (rf'{STAGE}\.attn\.{TABLE}', lambda m: f'{_block(m)}.attn.{TABLE}.table'),
        (rf'{STAGE}\.mlp\.([03])\.(\w+)', lambda m: f'{_block(m)}.mlp.{MLP[m[3]]}.{m[4]}'),
        (rf'{STAGE}\.(.+)', lambda m: f'{_block(m)}.{m[3]}'),
        (r'norm\.(\w+)', lambda m: f'norms.3.{m[1]}'),
    )
    width = 'features.0.2.weight'
    blocks = r'stages\.{0}\.(\d+)\.'

    def build(self, state_dict: Mapping[str, Tensor], **options: Any) -> SwinTransformer:
        counted = {
            re.sub(r'^features\.([1357])', lambda m: f'stages.{int(m[1]) // 2}', key): value
            for key, value in state_dict.items()
        }
        return super().build(counted, **options)
