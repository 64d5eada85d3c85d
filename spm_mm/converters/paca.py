"""PaCa-ViT and its segmentation head (iVMCL/PaCaViT)."""

import dataclasses
import re
from collections.abc import Mapping

from torch import Tensor, nn

from spm_mm.backbones import PaCaViT
from spm_mm.converters.base import (
    Classifier,
    Conversion,
    Converter,
    count_blocks,
    find_arch,
    vector_or_maps,
)

STEM = {'proj.0': 'conv1', 'proj.1': 'conv2', 'norm': 'norm'}
BLOCK = {
    'norm1_before': 'norm1',
    'norm2_before': 'norm2',
    'mlp.dwconv.dwconv': 'mlp.dwconv',
    'attn.clustering.clustering.0': 'attn.clustering.embed',
    'attn.clustering.clustering.2': 'attn.clustering.mix',
    'attn.clustering.clustering.4': 'attn.clustering.to_clusters',
}
# A ConvMixer block of the teacher: convolution, GELU and norm, twice.
MIXER = {
    '0.fn.0': 'depthwise.0',
    '0.fn.2': 'depthwise.2',
    '1': 'pointwise.0',
    '3': 'pointwise.2',
}
# Tried in order on the whole key without its last part (weight, bias, ...).
BACKBONE_RULES = (
    (r'patch_embed\.(.+)', lambda m: f'stem.{STEM[m[1]]}'),
    (r'transition(\d)\.proj', lambda m: f'mergings.{_index(m)}.conv'),
    (r'transition(\d)\.norm', lambda m: f'mergings.{_index(m)}.norm'),
    (r'stage(\d)\.(\d+)\.(.+)', lambda m: f'stages.{_index(m)}.blocks.{m[2]}.{_block(m[3])}'),
    (r'norm(\d)', lambda m: f'stages.{_index(m)}.norm'),
    (
        r'paca_teacher\.block(\d)\.(\d+)\.(.+)',
        lambda m: f'teacher.stages.{_index(m)}.{m[2]}.{MIXER[m[3]]}',
    ),
    (
        r'paca_teacher\.transition(\d)\.(0\.conv|2)',
        lambda m: f'teacher.mergings.{_index(m)}.{m[2]}',
    ),
    (r'paca_teacher\.lateral(\d)\.(\d)', lambda m: f'teacher.laterals.{_index(m)}.{m[2]}'),
    (r'paca_teacher\.fpn(\d)\.(.+)', lambda m: f'teacher.pyramid.{_index(m)}.{MIXER[m[2]]}'),
    (r'paca_teacher\.to_clusters(\d)', lambda m: f'teacher.to_clusters.{_index(m)}'),
)
HEAD_RULES = (
    (r'(convs\.\d+\.(?:conv|bn))', lambda m: m[1]),
    (r'conv_seg', lambda m: 'conv_seg'),
    (r'(q|clustering)\.0\.(conv|bn)', lambda m: f'{m[1]}.{m[2]}'),
    (r'clustering\.1', lambda m: 'to_clusters'),
    (r'(k|v)\.0', lambda m: f'{m[1]}.0'),
    (r'(k|v)\.2', lambda m: f'{m[1]}.1'),
    (r'(proj\.(?:conv|bn))', lambda m: m[1]),
)


def _index(match: re.Match) -> int:
    return int(match[1]) - 1


def _block(name: str) -> str:
    return BLOCK.get(name, name)


class PaCaConverter(Converter):
    source = 'paca'
    description = 'iVMCL/PaCaViT'

    def rename(self, key: str) -> str | None:
        if match := re.fullmatch(r'head\.(weight|bias)', key):
            return f'head.fc.{match[1]}'
        rules, part, prefix = BACKBONE_RULES, key, 'backbone.'
        if key.startswith('decode_head.'):
            rules, prefix = HEAD_RULES, 'decode_head.'
            part = key.removeprefix(prefix)
        part, _, last = part.rpartition('.')
        for pattern, name in rules:
            if match := re.fullmatch(pattern, part):
                try:
                    return f'{prefix}{name(match)}.{last}'
                except KeyError:
                    return None
        return None

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if re.fullmatch(r'decode_head\.[kv]\.0\.weight', name) and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]  # ours is a 1x1 convolution
        return {name: tensor}

    def dropped(self, key: str) -> str | None:
        return 'a constant' if key.endswith('.blur_filter') else None

    def convert(self, state_dict: Mapping[str, Tensor], module: nn.Module) -> Conversion:
        # The last layer of an MLP has the same number as the second layer of a convolution.
        mlp = _clustering(state_dict) == 'mlp'
        official = {
            key.replace('.clustering.clustering.2.', '.clustering.clustering.4.')
            if mlp
            else key: key
            for key in state_dict
        }
        found = super().convert({new: state_dict[key] for new, key in official.items()}, module)
        return dataclasses.replace(
            found,
            names={official[key]: ours for key, ours in found.names.items()},
            unexpected=[official[key] for key in found.unexpected],
        )

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        return Classifier.of(_backbone(state_dict), state_dict)


def _clustering(state_dict: Mapping[str, Tensor]) -> str | None:
    """Find the kind of clustering in the blocks of an official model; None if there is none."""
    last = {m[1] for key in state_dict if (m := re.search(r'\.clustering\.clustering\.(\d)', key))}
    return None if not last else 'conv' if '4' in last else 'mlp'


def _backbone(state_dict: Mapping[str, Tensor]) -> PaCaViT:
    stages = range(1, 5)
    clustering = _clustering(state_dict)
    last = {'conv': 4, 'mlp': 2, None: None}[clustering]
    told = {
        'embed_dims': tuple(len(state_dict.get(f'norm{i}.weight', ())) for i in stages),
        'teacher_depths': count_blocks(state_dict, r'paca_teacher\.block{1}\.(\d+)\.'),
    }
    arch = find_arch(
        PaCaViT, 'PaCa-ViT', state_dict, r'stage{1}\.(\d+)\.',
        lambda settings: settings.items() >= told.items(),
    )  # fmt: skip
    depths = PaCaViT.arch_settings[arch]['depths']
    num_clusters, intervals = [], []
    for i in stages:
        own = f'stage{i}.{{}}.attn.clustering.clustering.{last}.weight'
        external = state_dict.get(f'paca_teacher.to_clusters{i}.weight', ())
        num_clusters.append(len(state_dict.get(own.format(0), external)))
        owners = [j for j in range(depths[i - 1]) if own.format(j) in state_dict]
        intervals.append(owners[1] if len(owners) > 1 else 0)
    return PaCaViT(
        arch,
        num_clusters=num_clusters,
        clustering=clustering,
        clustering_interval=intervals,
        out_type=vector_or_maps(state_dict),
    )
