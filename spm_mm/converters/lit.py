"""LIT (ziplab/LIT): LIT-Tiny's code base and that of small, medium and base, with the dense forms."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spm_mm.backbones import LIT
from spm_mm.converters.base import Classifier, Twin, find_arch, rename_by, run_classifier
from spm_mm.converters.pvt import PVTConverter
from spm_mm.layers import conv_on_map
from spm_mm.merging import DeformableMerging

MERGING = {'dconv': 'conv', 'dconv.conv_offset': 'offset', 'norm_layer': 'norm'}
PART = r'(dconv|dconv\.conv_offset|norm_layer)\.(\w+)'
# Tried in order on the whole key, before those of PVT.
RULES = (
    (PART, lambda m: f'merging.{MERGING[m[1]]}.{m[2]}'),
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
    """LIT-Tiny's names are PVT's but for the attention and the merging."""

    source = 'lit'
    description = 'ziplab/LIT, ImageNet classifiers and dense backbones'
    families = ('lit',)
    fixtures = (
        'dtm',
        'dtm_wide',
        'lit_ti',
        'lit_ti_dense',
        'lit_small',
        'lit_small_det',
        'lit_small_seg',
        'lit_medium',
        'lit_base',
    )

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
            return 'follows from the size of the map'
        return super().dropped(key)

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        def fits(settings: Mapping[str, Any]) -> bool:
            if settings['position'] == 'absolute':
                return 'pos_embed1' in state_dict
            return len(state_dict.get('patch_embed.proj.weight', ())) == settings['embed_dims'][0]

        pattern = r'(?:layers\.{0}\.blocks|block{1})\.(\d+)\.'
        return _model(find_arch(LIT, 'LIT', state_dict, pattern, fits), state_dict)

    def twin(
        self, callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
    ) -> Twin:
        if callable_name == 'DeformablePatchEmbed_GELU':
            part = DeformableMerging(config['in_channels'], config['out_channels'])
            return Twin(nn.ModuleDict({'merging': part}), lambda x: _run_merging(part, x))
        model = self.model_for(state_dict)
        if isinstance(model, Classifier):
            dense = LIT(model.backbone.arch, img_size=_image_size(state_dict))
            return Twin(model, run_classifier(model, dense))
        return Twin(
            model,
            lambda x: {f'stage{i}': out for i, out in enumerate(model['backbone'](x), start=1)},
        )


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


def _run_merging(merging: DeformableMerging, x: Tensor) -> dict[str, Tensor]:
    x = x.permute(0, 2, 3, 1)
    outputs = {'out_map': merging(x), 'offset_map': conv_on_map(merging.offset, x)}
    return {name: out.permute(0, 3, 1, 2) for name, out in outputs.items()}
