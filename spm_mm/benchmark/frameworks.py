"""The frameworks' own backbones with the weights of ours: what a user would take otherwise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spm_mm.converters import get_converter
from spm_mm.registry import MODELS


@dataclass(frozen=True)
class FrameworkForm:
    """A backbone of a framework: its ``type``, the arguments of one of our architectures, and the
    source of :mod:`spm_mm.converters` that knows its names.
    """

    framework: str
    type: str
    source: str
    arguments: Callable[[Mapping[str, Any]], dict[str, Any]]


def framework_twin(ours: nn.Module, form: FrameworkForm) -> nn.Module:
    """The framework's model with our weights, and with our epsilon in every norm."""
    cfg = dict(type=form.type, drop_path_rate=ours.drop_path_rate, **form.arguments(ours.arch))
    theirs = MODELS.build(cfg | dict(_scope_=form.type.split('.')[0]))
    model = nn.ModuleDict({'backbone': ours})
    official, weights = theirs.state_dict(), model.state_dict()
    conversion = get_converter(form.source).convert(official, model)
    if conversion.unexpected or conversion.missing:
        raise ValueError(f'{form.type} is another model than ours:\n{conversion.report()}')
    norms = {
        f'{name}.weight': module.eps
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm)
    }
    for key, names in conversion.names.items():
        # What is split here is one tensor there, and linear layers may be 1x1 convolutions.
        joined = torch.cat([weights[name] for name in names])
        official[key] = joined.reshape(official[key].shape)
        if names[0] in norms:
            theirs.get_submodule(key.rpartition('.')[0]).eps = norms[names[0]]
    theirs.load_state_dict(official)
    return theirs


def _pvt_arguments(arch: Mapping[str, Any]) -> dict[str, Any]:
    return dict(
        embed_dims=arch['embed_dims'][0] // arch['num_heads'][0],
        num_layers=list(arch['depths']),
        num_heads=list(arch['num_heads']),
        mlp_ratios=list(arch['mlp_ratios']),
        sr_ratios=list(arch['sr_ratios']),
    )


def _swin_arguments(arch: Mapping[str, Any]) -> dict[str, Any]:
    return dict(
        arch=dict(
            embed_dims=arch['embed_dims'][0],
            depths=list(arch['depths']),
            num_heads=list(arch['num_heads']),
        ),
        out_indices=(0, 1, 2, 3),
        pad_small_map=True,  # as our dense form: small maps are padded, and their windows shifted
    )


FRAMEWORK_FORMS = {
    'PVT': FrameworkForm(
        'MMDetection', 'mmdet.PyramidVisionTransformer', 'mmdet-pvt', _pvt_arguments
    ),
    'PVTv2': FrameworkForm(
        'MMDetection', 'mmdet.PyramidVisionTransformerV2', 'mmdet-pvtv2', _pvt_arguments
    ),
    'SwinTransformer': FrameworkForm(
        'MMPretrain', 'mmpretrain.SwinTransformer', 'openmmlab-swin', _swin_arguments
    ),
}
"""By the name of our class."""
