"""Converters of Shunted and NAT beside what the parity tests show of them."""

import pytest
import torch

from spm_mm.backbones import NAT
from spm_mm.converters import get_converter


def official_nat(arch: str, dense: bool) -> dict[str, torch.Tensor]:
    """Names and shapes of the official code, from a table of its own."""
    settings = NAT.arch_settings[arch]
    c, ratio = settings['embed_dims'][0], settings['mlp_ratios'][0]
    table = {'patch_embed.proj.0.weight': (c // 2, 3, 3, 3), 'patch_embed.proj.0.bias': (c // 2,)}
    table |= {'patch_embed.proj.1.weight': (c, c // 2, 3, 3), 'patch_embed.proj.1.bias': (c,)}
    norms = {'patch_embed.norm': c} | ({} if dense else {'norm': 8 * c})
    for i, depth in enumerate(settings['depths']):
        w = c * 2**i
        if dense:
            norms[f'norm{i}'] = w
        if i < 3:
            table[f'levels.{i}.downsample.reduction.weight'] = (2 * w, w, 3, 3)
            norms[f'levels.{i}.downsample.norm'] = 2 * w
        for b in range(depth):
            block = f'levels.{i}.blocks.{b}.'
            norms |= {f'{block}norm1': w, f'{block}norm2': w}
            table[f'{block}attn.rpb'] = (w // 32, 13, 13)
            linears = {'attn.qkv': (3 * w, w), 'attn.proj': (w, w)}
            linears |= {'mlp.fc1': (ratio * w, w), 'mlp.fc2': (w, ratio * w)}
            for name, shape in linears.items():
                table |= {f'{block}{name}.weight': shape, f'{block}{name}.bias': shape[:1]}
            if settings['layer_scale']:
                table |= {f'{block}gamma1': (w,), f'{block}gamma2': (w,)}
    table |= {f'{name}.{kind}': (w,) for name, w in norms.items() for kind in ('weight', 'bias')}
    if not dense:
        table |= {'head.weight': (10, 8 * c), 'head.bias': (10,)}
    return {name: torch.empty(shape, device='meta') for name, shape in table.items()}


@pytest.mark.parametrize('dense', [False, True], ids=['classifier', 'dense'])
@pytest.mark.parametrize('arch', NAT.arch_settings)
def test_every_nat_arrives(arch: str, dense: bool) -> None:
    weights = official_nat(arch, dense)
    converter = get_converter('nat')
    with torch.device('meta'):
        model = converter.model_for(weights)
    conversion = converter.convert(weights, model)
    assert (conversion.missing, conversion.unexpected, conversion.dropped) == ([], [], {})
    assert dense or model.head['fc'].out_features == 10


def test_a_detectors_checkpoint_is_reported() -> None:
    weights = {f'backbone.{k}': v for k, v in official_nat('mini', dense=True).items()}
    weights |= {'rpn_head.rpn_conv.weight': torch.empty(1), 'optimizer': torch.empty(1)}
    converter = get_converter('nat')
    model = converter.model_for(weights)
    conversion = converter.convert(weights, model)
    assert conversion.missing == []
    assert conversion.unexpected == ['optimizer']
    assert list(conversion.dropped) == ['rpn_head.rpn_conv.weight']


@pytest.mark.parametrize('source', ['nat', 'shunted'])
def test_another_model_is_refused(source: str) -> None:
    for weights in ({'conv1.weight': torch.zeros(1)}, {'patch_embed.norm.weight': torch.zeros(64)}):
        with pytest.raises(ValueError, match=r'no checkpoint of (NAT mini|Shunted tiny)'):
            get_converter(source).model_for(weights)
