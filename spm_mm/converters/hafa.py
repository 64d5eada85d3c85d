"""HAFA (CBCZJL/Building-Vision-Transformers-with-Hierarchy-Aware-Feature-Aggregation): classifiers and
dense backbones on PVT and PVTv2.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spm_mm.backbones import PVT, HierarchicalBackbone, PVTv2
from spm_mm.converters.base import Classifier, find_arch, rename_by, vector_or_maps
from spm_mm.converters.lit import LITConverter
from spm_mm.converters.pvt_v2 import PVTv2Converter
from spm_mm.errors import UserError

MERGING = [{'type': 'DeformableMerging'}, {'type': 'DeformableMerging'}, {'type': 'ClusterMerging'}]
PARTS = {
    'conv': 'conv',
    'conv.skip': 'skip',
    'norm': 'norm',
    'score': 'score',
    'Multiscale.skip': 'context.skip',
    'Multiscale.depth_conv': 'context.depthwise',
    'Multiscale.point_conv': 'context.pointwise',
    'norm1': 'context.norm',
}
PART = rf'({"|".join(map(re.escape, PARTS))})\.(weight|bias)'
# Tried on the whole key before the rules of LIT and PVT.
RULES = ((rf'patch_embed4\.{PART}', lambda m: f'backbone.mergings.2.{PARTS[m[1]]}.{m[2]}'),)
LAA = {'dconv': 'conv', 'dconv.conv_offset': 'offset', 'norm_layer': 'norm'}
# The same for PVTv2.
V2_RULES = (
    (
        r'dcn(\d)\.(dconv|dconv\.conv_offset|norm_layer)\.(\w+)',
        lambda m: f'backbone.mergings.{int(m[1]) - 1}.{LAA[m[2]]}.{m[3]}',
    ),
    (rf'ctm3\.{PART}', lambda m: f'backbone.mergings.2.{PARTS[m[1]]}.{m[2]}'),
    (
        r'block4\.(\d+)\.mlp\.dwconv\.skip\.(\w+)',
        lambda m: f'backbone.stages.3.blocks.{m[1]}.mlp.skip.{m[2]}',
    ),
)
UNUSED = 'never used by the official model'


class HAFAConverter(LITConverter):
    """Local-aware aggregation has the names of LIT's deformable merging, the rest those of PVT."""

    source = 'hafa'
    description = "HAFA's official code, ImageNet classifiers and dense backbones on PVT"

    def rename(self, key: str) -> str | None:
        return rename_by(RULES, key) or super().rename(key)

    def dropped(self, key: str) -> str | None:
        if key == 'cls_token' or key.startswith(('patch_embed4.proj_q.', 'norm4.')):
            return UNUSED
        return super().dropped(key)

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        arch = find_arch(
            PVT,
            'PVT with HAFA',
            state_dict,
            r'block{1}\.(\d+)\.',
            lambda _: 'patch_embed4.score.weight' in state_dict,
        )
        size = 4 * math.isqrt(state_dict['pos_embed1'].shape[1])
        return _model(PVT, arch, state_dict, img_size=size)


class HAFAv2Converter(PVTv2Converter):
    """HAFA on PVTv2, with or without a head. The official class does not run as committed."""

    source = 'hafa-pvtv2'
    description = "HAFA's official code, PVTv2 with HAFA"

    def rename(self, key: str) -> str | None:
        return rename_by(V2_RULES, key) or super().rename(key)

    def dropped(self, key: str) -> str | None:
        return UNUSED if key.startswith('ctm3.proj_q.') else super().dropped(key)

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        if 'ctm3.score.weight' not in state_dict:
            raise UserError(
                f'this is no checkpoint of PVTv2 with HAFA: its first keys are {list(state_dict)[:3]}'
            )
        return _model(PVTv2, self.arch_of(state_dict), state_dict)


def _model(
    family: type[HierarchicalBackbone], arch: str, state_dict: Mapping[str, Tensor], **options: Any
) -> nn.Module:
    backbone = family(arch, merging=MERGING, out_type=vector_or_maps(state_dict), **options)
    return Classifier.of(backbone, state_dict)
