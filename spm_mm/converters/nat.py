"""NAT (SHI-Labs/Neighborhood-Attention-Transformer): classifiers, and backbones of detectors and
segmentors.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from spm_mm.backbones import NAT
from spm_mm.converters.base import Classifier, Converter, find_arch, rename_by

STEM = {'proj.0': 'conv1', 'proj.1': 'conv2', 'norm': 'norm'}
MERGING = {'reduction': 'conv', 'norm': 'norm'}
# Tried in order on the key without `backbone.`; the first that matches is taken.
RULES = (
    (r'patch_embed\.(proj\.[01]|norm)\.(\w+)', lambda m: f'backbone.stem.{STEM[m[1]]}.{m[2]}'),
    (
        r'levels\.(\d)\.downsample\.(reduction|norm)\.(\w+)',
        lambda m: f'backbone.mergings.{m[1]}.{MERGING[m[2]]}.{m[3]}',
    ),
    (
        r'levels\.(\d)\.blocks\.(\d+)\.attn\.rpb',
        lambda m: f'backbone.stages.{m[1]}.blocks.{m[2]}.attn.relative_position_bias_table',
    ),
    (
        r'levels\.(\d)\.blocks\.(\d+)\.gamma([12])',
        lambda m: f'backbone.stages.{m[1]}.blocks.{m[2]}.scale{m[3]}.weight',
    ),
    (r'levels\.(\d)\.(blocks\..+)', lambda m: f'backbone.stages.{m[1]}.{m[2]}'),
    (r'norm(\d)\.(\w+)', lambda m: f'backbone.norms.{m[1]}.out.{m[2]}'),
    (r'norm\.(\w+)', lambda m: f'backbone.norms.3.{m[1]}'),
    (r'head\.(\w+)', lambda m: f'head.fc.{m[1]}'),
)


class NATConverter(Converter):
    source = 'nat'
    description = (
        'SHI-Labs/Neighborhood-Attention-Transformer, ImageNet classifiers and dense backbones'
    )

    def rename(self, key: str) -> str | None:
        return rename_by(RULES, key)

    def doubt(self, clues: str, named: bool) -> str | None:
        if re.search('dinat', clues, re.IGNORECASE):
            return (
                'this is a checkpoint of DiNAT, by its name: that has the keys and shapes of NAT, but'
                ' dilated neighborhoods, which this suite does not have'
            )
        if not named and not re.search(r'(?<![a-z])nat(?![a-z])', clues, re.IGNORECASE):
            return (
                'this is a checkpoint of NAT or of DiNAT: both have the same keys and shapes, and the'
                f" file's name tells neither; if it is NAT, say so with --source {self.source}"
            )
        return None

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        if any(f'norm{i}.weight' in state_dict for i in range(4)):
            return nn.ModuleDict({'backbone': NAT(_arch(state_dict))})
        return Classifier.of(NAT(_arch(state_dict), out_type='avg_featmap'), state_dict)


def _arch(state_dict: Mapping[str, Tensor]) -> str:
    width = len(state_dict.get('patch_embed.norm.weight', ()))
    return find_arch(
        NAT,
        'NAT',
        state_dict,
        r'levels\.{0}\.blocks\.(\d+)\.',
        lambda settings: settings['embed_dims'][0] == width,
    )
