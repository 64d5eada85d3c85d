"""LIT (ziplab/LIT): tiny, and small, medium and base, as classifiers and dense backbones."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spm_mm.backbones import LIT
from spm_mm.converters.base import Classifier, find_arch, rename_by
from spm_mm.converters.pvt import PVTConverter

MERGING = {'dconv': 'conv', 'dconv.conv_offset': 'offset', 'norm_layer': 'norm'}
PART = r'(dconv|dconv\.conv_offset|norm_layer)\.(\w+)'
# Tried in order on the whole key, before the rules of PVT.
RULES = (
    (rf'patch_embed(\d)\.{PART}', lambda m: _merging(int(m[1]) - 2, m[2], m[3])),
    (rf'layers\.(\d)\.downsample\.{PART}', lambda m: _merging(int(m[1]), m[2], m[3])),
    (r'patch_embed\.proj\.(\w+)', lambda m: f'backbone.stem.conv.{m[1]}'),
    (r'patch_embed\.norm\.(\w+)', lambda m: f'backbone.stem.norm.{m[1]}'),
    (
        r'layers\.(\d)\.blocks\.(\d+\.attn)\.relative_position_bias_table',
        lambda m: f'backbone.stages.{m[1]}.blocks.{m[2]}.relative_position_bias_table.table',
    ),
    (r'layers\.(\d)\.blocks\.(.+)', lambda m: f'backbone.stages.{m[1]}.blocks.{m[2]}'),
    (r'norm(\d)\.(\w+)', lambda m: f'backbone.norms.{m[1]}.out.{m[2]}'),
)


def _merging(transition: int, part: str, kind: str) -> str:
    return f'backbone.mergings.{transition}.{MERGING[part]}.{kind}'


class LITConverter(PVTConverter):
    """LIT-Tiny has the names of PVT except in the attention and the merging."""

    source = 'lit'
    description = 'ziplab/LIT, ImageNet classifiers and dense backbones'

    def rename(self, key: str) -> str | None:
        return rename_by(RULES, key) or super().rename(key)

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if '.attn.qkv.' in name:
            q, kv = tensor.split((len(tensor) // 3, len(tensor) // 3 * 2))
            return {name.replace('.qkv.', '.q.'): q, name.replace('.qkv.', '.kv.'): kv}
        if name.endswith('relative_position_bias_table.table'):
            side = math.isqrt(len(tensor))
            return {name: tensor.view(1, side, side, -1)} if side**2 == len(tensor) else {}
        return super().reshape(name, tensor)

    def dropped(self, key: str) -> str | None:
        if key.endswith('relative_position_index'):
            return 'follows from the size of the feature map'
        return super().dropped(key)

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        def fits(settings: Mapping[str, Any]) -> bool:
            if settings['position'] == 'absolute':
                return 'pos_embed1' in state_dict
            return len(state_dict.get('patch_embed.proj.weight', ())) == settings['embed_dims'][0]

        pattern = r'(?:layers\.{0}\.blocks|block{1})\.(\d+)\.'
        return _model(find_arch(LIT, 'LIT', state_dict, pattern, fits), state_dict)


def _model(arch: str, state_dict: Mapping[str, Tensor]) -> nn.Module:
    size = _image_size(state_dict)
    if 'head.weight' not in state_dict:
        out_norms = [i for i in range(4) if f'norm{i}.weight' in state_dict]
        return nn.ModuleDict({'backbone': LIT(arch, img_size=size, out_norms=out_norms)})
    absolute = LIT.arch_settings[arch]['position'] == 'absolute'
    out_type = 'cls_token' if absolute else 'avg_featmap'
    return Classifier.of(LIT(arch, img_size=size, out_type=out_type), state_dict)


def _image_size(state_dict: Mapping[str, Tensor]) -> int:
    if 'pos_embed1' in state_dict:
        return 4 * math.isqrt(state_dict['pos_embed1'].shape[1])
    table = state_dict['layers.2.blocks.0.attn.relative_position_bias_table']
    return 16 * (math.isqrt(len(table)) + 1) // 2
