"""SG-Former (OliverRensu/SG-Former), classification models."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spm_mm.attention import HybridScaleAttention, LocallyEnhancedAttention, SelfGuidedAttention
from spm_mm.backbones import SGFormer
from spm_mm.backbones.sg_former import REGIONS
from spm_mm.converters.base import (
    Classifier,
    Conversion,
    Converter,
    Twin,
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
KINDS = {
    'plain': lambda dim, heads, sr: LocallyEnhancedAttention(dim, heads),
    'hybrid': lambda dim, heads, sr: HybridScaleAttention(dim, heads, (sr, 1)),
    'guided': lambda dim, heads, sr: SelfGuidedAttention(
        dim, heads, {8: REGIONS[0], 4: REGIONS[1], 2: REGIONS[2]}[sr]
    ),
}


def _attention(key: str) -> str:
    for pattern, name in ATTENTION_RULES:
        if match := re.match(pattern, key):
            return name(match) + key[match.end() :]
    return key


class SGFormerConverter(Converter):
    source = 'sgformer'
    description = 'OliverRensu/SG-Former, ImageNet classifiers'
    families = ('sgformer',)
    averaged = True
    fixtures = (
        *(f'sgformer_{size}' for size in ('s', 's_448', 'm', 'b')),
        *(f'sg_attn_{kind}_sr{sr}' for kind in ('hybrid', 'guided') for sr in (8, 4, 2)),
        'sg_attn_plain',
    )

    def rename(self, key: str) -> str | None:
        if name := rename_by(STAGE_RULES, key):
            return name
        return f'attn.{_attention(key[5:])}' if key.startswith('attn.') else None

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if not name.endswith('position.table') or tensor.ndim != 3:
            return {name: tensor}
        side = math.isqrt(tensor.shape[1])
        return {name: tensor.view(1, side, side, -1)} if side * side == tensor.shape[1] else {}

    def convert(self, state_dict: Mapping[str, Tensor], module: nn.Module) -> Conversion:
        """As the base, but ``kv1`` and ``kv2`` of a self-guided block become one ``kv``.

        Each serves half of the heads; both read the same tokens here.
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

    def twin(
        self, callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
    ) -> Twin:
        if callable_name == 'Attention':
            part = KINDS[config['kind']](config['dim'], config['num_heads'], config['sr_ratio'])

            def run_part(x: Tensor, significance: Tensor | None = None) -> dict[str, Tensor]:
                out, received = part(x, significance)
                outputs = {'out_map': out.permute(0, 3, 1, 2)}
                return (
                    outputs if received is None else outputs | {'significance': received[:, None]}
                )

            return Twin(nn.ModuleDict({'attn': part}), run_part, prefix='attn.')
        arch = {'s': 'small', 'm': 'medium', 'b': 'base'}[callable_name[-1]]
        backbone = SGFormer(arch, out_type='avg_featmap', img_size=config['img_size'])
        model = Classifier.of(backbone, state_dict)
        return Twin(model, lambda x: _run(model, x))


def _run(model: Classifier, x: Tensor) -> dict[str, Tensor]:
    """Logits, the normed maps of all stages and the significance that the first blocks find.

    Where an image has as many tokens as the position table, but on another grid, the official code
    adds the table in flat order, and leaves out the border that fills no merging patch: so does this.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, place: int, unsqueeze: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, out: tuple) -> None:
            outputs[name] = out[place][:, None] if unsqueeze else out[place].permute(0, 3, 1, 2)

        return hook

    stages = model.backbone.stages
    handles = [
        s.register_forward_hook(keep(f'stage{i}', 0, False)) for i, s in enumerate(stages, 1)
    ]
    handles += [
        s.blocks[0].register_forward_hook(keep(f'significance{i}', 1, True))
        for i, s in enumerate(stages[:-1], 1)
    ]
    position = stages[0].position
    table, grid = position.table.data, tuple(-(-side // 4) for side in x.shape[2:])
    if math.prod(grid) == table[0, ..., 0].numel():
        position.table.data = table.view(1, *grid, -1)
    scales = [module for module in model.modules() if hasattr(module, 'keep_border')]
    for module in scales:
        module.keep_border = grid == table.shape[1:3]
    outputs['logits'] = model(x)
    position.table.data = table
    for handle in handles:
        handle.remove()
    return outputs
