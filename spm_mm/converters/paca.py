"""PaCa-ViT and its segmentation head (iVMCL/PaCaViT)."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spm_mm.attention import assign
from spm_mm.backbones import PaCaViT
from spm_mm.converters.base import (
    Classifier,
    Conversion,
    Converter,
    Twin,
    count_blocks,
    find_arch,
    vector_or_maps,
)
from spm_mm.registry import MODELS

STEM = {'proj.0': 'conv1', 'proj.1': 'conv2', 'norm': 'norm'}
BLOCK = {
    'norm1_before': 'norm1',
    'norm2_before': 'norm2',
    'mlp.dwconv.dwconv': 'mlp.dwconv',
    'attn.clustering.clustering.0': 'attn.clustering.embed',
    'attn.clustering.clustering.2': 'attn.clustering.mix',
    'attn.clustering.clustering.4': 'attn.clustering.to_clusters',
}
# Of a ConvMixer block of the teacher: the order is convolution, GELU, norm, twice.
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
    families = ('paca',)
    fixtures = (
        *(
            f'pacavit_{name}'
            for arch in ('tiny', 'small', 'base')
            for name in (f'{arch}_p2cconv_100_0', f'{arch}_p2cconv_100_0_downstream')
        ),
        *(f'pacavit_convmixer_{arch}_100' for arch in ('tiny', 'small', 'base')),
        'pacavit_convmixer_small_100_downstream',
        'pacavit_small_p2cmlp_100_0',
        'pacavit_small_p2cmlp_100_0_downstream',
        'pacavit_small_p2cconv_100',
        'pacavit_small_p2cconv_100_blockwise',
        'pacavit_small_p2cconv_100_49',
        'pacavit_small_p2cconv_49_100',
        'pacavit_small_p2cconv_49_0',
        'pacavit_small_p2cconv_2_0',
        'paca_seg_head',
    )

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
        # The last layer of an MLP has the number that a convolution's second layer has.
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

    def twin(
        self, callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
    ) -> Twin:
        if callable_name == 'PaCaSegHead':
            head = _head(state_dict, dropout_ratio=0.0)

            def run_head(maps: list[Tensor]) -> dict[str, Tensor]:
                logits, clusters = head.forward_with_clusters(maps)
                return {'logits_map': logits, 'aux_map': clusters}

            return Twin(nn.ModuleDict({'decode_head': head}), run_head, prefix='decode_head.')

        model = nn.ModuleDict({'backbone': _backbone(state_dict, out_type='featmap')})
        if 'head.weight' in state_dict:
            model = Classifier.of(model['backbone'], state_dict)
        backbone = model.get_submodule('backbone')

        def run(x: Tensor) -> dict[str, Tensor]:
            maps = backbone(x)
            outputs = {f'stage{i}': out for i, out in enumerate(maps, start=1)}
            if isinstance(model, Classifier):
                outputs['logits'] = model.head['fc'](maps[-1].mean(dim=(2, 3)))
            if backbone.teacher is not None:
                guides = backbone.guide_stages(backbone.stem(x), x)
                for i, (logits, teacher_map) in enumerate(guides, start=1):
                    outputs[f'assign{i}'] = assign(logits)
                    outputs[f'teacher_stage{i}'] = teacher_map.permute(0, 3, 1, 2)
            return outputs

        return Twin(model, run)


def _clustering(state_dict: Mapping[str, Tensor]) -> str | None:
    """What kind of clustering an official model has of its own."""
    last = {m[1] for key in state_dict if (m := re.search(r'\.clustering\.clustering\.(\d)', key))}
    return None if not last else 'conv' if '4' in last else 'mlp'


def _backbone(state_dict: Mapping[str, Tensor], out_type: str | None = None) -> PaCaViT:
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
    if out_type is None:
        out_type = vector_or_maps(state_dict)
    return PaCaViT(
        arch,
        num_clusters=num_clusters,
        clustering=clustering,
        clustering_interval=intervals,
        out_type=out_type,
    )


def _head(state_dict: Mapping[str, Tensor], prefix: str = '', **options: Any) -> nn.Module:
    """PaCaHead, which needs MMSegmentation."""
    convs = re.compile(rf'{re.escape(prefix)}convs\.(\d+)\.')
    levels = len({m[1] for key in state_dict if (m := convs.match(key))})
    return MODELS.build(
        dict(
            type='spm_mm.PaCaHead',
            _scope_='mmseg',  # whose losses it takes
            in_channels=[
                state_dict[f'{prefix}convs.{i}.conv.weight'].shape[1] for i in range(levels)
            ],
            in_index=list(range(levels)),
            channels=len(state_dict[f'{prefix}proj.conv.weight']),
            num_classes=len(state_dict[f'{prefix}conv_seg.weight']),
            norm_cfg=dict(type='BN'),
            align_corners=False,
            **options,
        )
    )
