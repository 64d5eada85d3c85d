"""SG-Former (OliverRensu/SG-Former), classification models."""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spm_mm.backbones import SGFormer
from spm_mm.converters.base import (
    Classifier,
    Conversion,
    Converter,
    find_arch,
    rename_by,
    vector_or_maps,
)

NORM = {'c': 'conv', 'bn': 'gn'}  # the official `bn` is a group norm
MERGING = {'1': 'expand', '2': 'merge', '3': 'mix'}
STAGE_RULES = (
    (r'pos_embed', lambda m: 'backbone.stages.0.position.table'),
    (
        r'patch_embed1\.conv\.(\d)\.(c|bn)\.(\w+)',
        lambda m: f'backbone.stem.convs.{int(m[1]) // 2}.{NORM[m[2]]}.{m[3]}',
    ),
    (r'patch_embed1\.norm\.(\w+)', lambda m: f'backbone.stem.norm.{m[1]}'),
    (
        r'patch_embed(\d)\.conv(\d)\.(c|bn)\.(\w+)',
        lambda m: f'backbone.mergings.{int(m[1]) - 2}.{MERGING[m[2]]}.{NORM[m[3]]}.{m[4]}',
    ),
    (
        r'block(\d)\.(\d+)\.attn\.(.+)',
        lambda m: f'backbone.stages.{int(m[1]) - 1}.blocks.{m[2]}.attn.{_attention(m[3])}',
    ),
    (
        r'block(\d)\.(.+)',
        lambda m: (
            f'backbone.stages.{int(m[1]) - 1}.blocks.{m[2].replace("dwconv.dwconv", "dwconv")}'
        ),
    ),
    (r'norm(\d)\.(\w+)', lambda m: f'backbone.stages.{int(m[1]) - 1}.norm.{m[2]}'),
    (r'head\.(\w+)', lambda m: f'head.fc.{m[1]}'),
)
ATTENTION_RULES = (
    (r'sr\.', lambda m: 'groups.0.merge.'),
    (r'norm\.', lambda m: 'groups.0.norm.'),
    (r'(q|kv)([12])\.', lambda m: f'groups.{int(m[2]) - 1}.{m[1]}.'),
    (r'f(\d)\.', lambda m: f'aggregate.{int(m[1]) - 1}.'),
    (r'lepe_(linear|conv)\.', lambda m: f'lepe.{m[1]}.'),
)


def _attention(key: str) -> str:
    for pattern, name in ATTENTION_RULES:
        if match := re.match(pattern, key):
            return name(match) + key[match.end() :]
    return key


class SGFormerConverter(Converter):
    source = 'sgformer'
    description = 'OliverRensu/SG-Former, ImageNet classifiers'
    averaged = True

    def rename(self, key: str) -> str | None:
        return rename_by(STAGE_RULES, key)

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if not name.endswith('position.table') or tensor.ndim != 3:
            return {name: tensor}
        side = math.isqrt(tensor.shape[1])
        return {name: tensor.view(1, side, side, -1)} if side * side == tensor.shape[1] else {}

    def convert(self, state_dict: Mapping[str, Tensor], module: nn.Module) -> Conversion:
        """Convert as the base class does, and join ``kv1`` and ``kv2`` of a self-guided block.

        Each of them serves half of the heads, and both read the same tokens.
        """
        joined = dict(state_dict)
        pairs = {}
        for key in state_dict:
            second = key.replace('.kv1.', '.kv2.')
            attention = key.split('kv1.')[0]
            if second != key and second in state_dict and f'{attention}f1.weight' in state_dict:
                halves = (joined.pop(key).chunk(2), joined.pop(second).chunk(2))
                pairs[key.replace('.kv1.', '.kv.')] = (key, second)
                joined[key.replace('.kv1.', '.kv.')] = torch.cat(
                    [torch.cat(parts) for parts in zip(*halves, strict=True)]
                )
        conversion = super().convert(joined, module)
        for key, official in pairs.items():
            if key in conversion.unexpected:
                conversion.unexpected.remove(key)
                conversion.unexpected.extend(official)
            elif ours := conversion.names.pop(key, None):
                conversion.names.update(dict.fromkeys(official, ours))
                conversion.reshaped.update(dict.fromkeys(official, ours))
        return conversion

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        arch = find_arch(
            SGFormer,
            'SGFormer',
            state_dict,
            r'block{1}\.(\d+)\.',
            lambda _: 'pos_embed' in state_dict,
        )
        side = 4 * math.isqrt(state_dict['pos_embed'].shape[1])
        return Classifier.of(
            SGFormer(arch, out_type=vector_or_maps(state_dict), img_size=side), state_dict
        )
