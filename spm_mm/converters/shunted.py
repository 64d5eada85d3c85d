"""Shunted Transformer (OliverRensu/Shunted-Transformer), classification models."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from spm_mm.backbones import ShuntedTransformer
from spm_mm.converters.base import (
    Classifier,
    Converter,
    find_arch,
    rename_by,
    vector_or_maps,
)

PARTS = {'proj': 'conv', 'norm': 'norm'}
ATTENTION = {'sr': 'merge', 'norm': 'norm', 'kv': 'kv', 'local_conv': 'local'}
# Tried in order on the whole key; the first that matches is taken.
RULES = (
    (r'patch_embed1\.conv\.(.+)', lambda m: f'backbone.stem.convs.{m[1]}'),
    (r'patch_embed1\.norm\.(\w+)', lambda m: f'backbone.stem.norm.{m[1]}'),
    (
        r'patch_embed(\d)\.(proj|norm)\.(\w+)',
        lambda m: f'backbone.mergings.{int(m[1]) - 2}.{PARTS[m[2]]}.{m[3]}',
    ),
    (
        r'block(\d)\.(\d+)\.attn\.(sr|norm|kv|local_conv)([12])\.(\w+)',
        lambda m: f'{_block(m)}.attn.branches.{int(m[4]) - 1}.{ATTENTION[m[3]]}.{m[5]}',
    ),
    (r'block(\d)\.(\d+)\.attn\.local_conv\.(\w+)', lambda m: f'{_block(m)}.attn.local.{m[3]}'),
    (r'block(\d)\.(\d+)\.mlp\.dwconv\.(dwconv\.\w+)', lambda m: f'{_block(m)}.mlp.{m[3]}'),
    (r'block(\d)\.(\d+)\.(.+)', lambda m: f'{_block(m)}.{m[3]}'),
    (r'norm(\d)\.(\w+)', lambda m: f'backbone.stages.{int(m[1]) - 1}.norm.{m[2]}'),
    (r'head\.(\w+)', lambda m: f'head.fc.{m[1]}'),
)


def _block(match: re.Match) -> str:
    return f'backbone.stages.{int(match[1]) - 1}.blocks.{match[2]}'


class ShuntedConverter(Converter):
    source = 'shunted'
    description = 'OliverRensu/Shunted-Transformer, ImageNet classifiers'

    def rename(self, key: str) -> str | None:
        return rename_by(RULES, key)

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        arch = find_arch(
            ShuntedTransformer,
            'Shunted',
            state_dict,
            r'block{1}\.(\d+)\.',
            lambda _: 'block1.0.attn.sr2.weight' in state_dict,
        )
        out_type = vector_or_maps(state_dict)
        return Classifier.of(ShuntedTransformer(arch, out_type=out_type), state_dict)
