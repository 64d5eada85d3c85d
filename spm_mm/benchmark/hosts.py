"""The hosts' own backbones with the weights of ours: what a user would take otherwise."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spm_mm.registry import MODELS


@dataclass(frozen=True)
class HostForm:
    """A backbone of a host.

    Its ``type``, what its constructor takes for one of our models, the name of each of our tensors
    there, and the options that give ours the form of the host's.
    """

    host: str
    type: str
    arguments: Callable[[Mapping[str, Any]], dict[str, Any]]
    rules: tuple[tuple[str, Callable[[re.Match], str]], ...]
    dense: dict[str, Any] = field(default_factory=dict)


def host_twin(ours: nn.Module, form: HostForm) -> nn.Module:
    """The host's model with our weights, and with our epsilon in every norm."""
    cfg = dict(type=form.type, drop_path_rate=ours.drop_path_rate, **form.arguments(ours.arch))
    theirs = MODELS.build(cfg | dict(_scope_=form.type.split('.')[0]))
    with torch.no_grad():
        wanted = theirs.state_dict()
        gathered: dict[str, list[Tensor]] = {}
        for name, tensor in ours.state_dict().items():
            gathered.setdefault(_renamed(name, form), []).append(tensor)
        # What the host keeps fused comes from several of ours; 1x1 convolutions are linear layers here.
        found = {
            name: torch.cat(parts).reshape(wanted[name].shape) for name, parts in gathered.items()
        }
        fixed = set(wanted) - set(found)
        if any(not name.endswith('relative_position_index') for name in fixed):
            raise KeyError(f'{form.type} has weights that ours lacks: {sorted(fixed)[:3]}')
        theirs.load_state_dict(found, strict=False)
    for name, module in ours.named_modules():
        if isinstance(module, nn.LayerNorm):
            theirs.get_submodule(
                _renamed(f'{name}.weight', form).rpartition('.')[0]
            ).eps = module.eps
    return theirs


def _renamed(name: str, form: HostForm) -> str:
    for pattern, new in form.rules:
        if match := re.fullmatch(pattern, name):
            return new(match)
    raise KeyError(f'{form.type} has no place for {name}')


def _pvt_rules(mlp: Mapping[str, int], first: int) -> tuple:
    """Names of MMDetection's two classes; blocks of a stage count from ``first``."""

    def block(match: re.Match) -> str:
        return f'layers.{match[1]}.1.{int(match[2]) + first}.'

    stage = r'stages\.(\d)\.blocks\.(\d+)\.'
    return (
        (r'stem\.conv\.(\w+)', lambda m: f'layers.0.0.projection.{m[1]}'),
        (r'stem\.norm\.(\w+)', lambda m: f'layers.0.0.norm.{m[1]}'),
        (
            r'mergings\.(\d)\.(conv|norm)\.(\w+)',
            lambda m: (
                f'layers.{int(m[1]) + 1}.0.{"projection" if m[2] == "conv" else "norm"}.{m[3]}'
            ),
        ),
        (r'stages\.(\d)\.position\.table', lambda m: f'layers.{m[1]}.1.0.pos_embed'),
        (
            r'stages\.(\d)\.norm\.(\w+)|norms\.(\d)\.(\w+)',
            lambda m: f'layers.{m[1] or m[3]}.2.{m[2] or m[4]}',
        ),
        (stage + r'attn\.(?:q|kv)\.(\w+)', lambda m: f'{block(m)}attn.attn.in_proj_{m[3]}'),
        (stage + r'attn\.proj\.(\w+)', lambda m: f'{block(m)}attn.attn.out_proj.{m[3]}'),
        (
            stage + r'mlp\.(fc1|dwconv|fc2)\.(\w+)',
            lambda m: f'{block(m)}ffn.layers.{mlp[m[3]]}.{m[4]}',
        ),
        (stage + r'(.+)', lambda m: block(m) + m[3]),
    )


def _pvt_arguments(arch: Mapping[str, Any]) -> dict[str, Any]:
    return dict(
        embed_dims=arch['embed_dims'][0] // arch['num_heads'][0],
        num_layers=list(arch['depths']),
        num_heads=list(arch['num_heads']),
        mlp_ratios=list(arch['mlp_ratios']),
        sr_ratios=list(arch['sr_ratios']),
    )


HOST_FORMS: dict[str, HostForm] = {
    'PVTv2': HostForm(
        'MMDetection',
        'mmdet.PyramidVisionTransformerV2',
        _pvt_arguments,
        _pvt_rules({'fc1': 0, 'dwconv': 1, 'fc2': 4}, first=0),
    ),
    'PVT': HostForm(
        'MMDetection',
        'mmdet.PyramidVisionTransformer',
        _pvt_arguments,
        _pvt_rules({'fc1': 0, 'fc2': 3}, first=1),
    ),
}
"""By the name of our class."""
