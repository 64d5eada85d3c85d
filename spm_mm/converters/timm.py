"""timm: Swin and PVTv2. Up to timm 0.6 its Swin has the names of the official code."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from spm_mm.backbones import PVTv2
from spm_mm.converters.base import Classifier, Converter, rename_by, vector_or_maps
from spm_mm.converters.pvt_v2 import find_pvt_v2
from spm_mm.converters.swin import OfficialSwinConverter

PART = {'proj': 'conv', 'norm': 'norm'}
PVT_V2_RULES = (
    (r'patch_embed\.(proj|norm)\.(\w+)', lambda m: f'stem.{PART[m[1]]}.{m[2]}'),
    (
        r'stages\.([123])\.downsample\.(proj|norm)\.(\w+)',
        lambda m: f'mergings.{int(m[1]) - 1}.{PART[m[2]]}.{m[3]}',
    ),
    (r'stages\.\d\.(?:blocks\.\d+\..+|norm\.\w+)', lambda m: m[0]),
)


class TimmSwinConverter(OfficialSwinConverter):
    """Named as the official code, but a merging belongs to the stage behind it."""

    source = 'timm-swin'
    description = 'timm, Swin'
    rules = (
        (r'layers\.([123])\.downsample\.(.+)', lambda m: f'mergings.{int(m[1]) - 1}.{m[2]}'),
        *(rule for rule in OfficialSwinConverter.rules if 'downsample' not in rule[0]),
    )


class TimmPVTv2Converter(Converter):
    source = 'timm-pvtv2'
    description = 'timm, PVTv2'

    def rename(self, key: str) -> str | None:
        if match := re.fullmatch(r'head\.(\w+)', key):
            return f'head.fc.{match[1]}'
        name = rename_by(PVT_V2_RULES, key)
        return name and f'backbone.{name}'

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        arch = find_pvt_v2(
            state_dict,
            r'stages\.{0}\.blocks\.(\d+)\.',
            width='stages.3.norm.weight',
            hidden='stages.0.blocks.0.mlp.fc1.weight',
            linear='stages.3.blocks.0.attn.sr.weight',
        )
        return Classifier.of(PVTv2(arch, out_type=vector_or_maps(state_dict)), state_dict)
