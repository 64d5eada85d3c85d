"""PVTv2's checkpoints: the official code's, and those of MMDetection's own class."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from spm_mm.backbones import PVTv2
from spm_mm.converters import get_converter
from tests.parity.fixtures import make_state_dict, read_fixture


@pytest.fixture(scope='module')
def official(root) -> dict[str, torch.Tensor]:
    return make_state_dict(read_fixture(root / 'tests/parity/oracles/pvt_v2_b0.json'))


@pytest.mark.parametrize('arch', [a for a in PVTv2.arch_settings if 'mit' not in a])
def test_the_architecture_is_told_from_the_weights(arch: str, root) -> None:
    name = f'pvt_v2_{arch.replace("-", "_")}'
    fixture = read_fixture(root / f'tests/parity/oracles/{name}.json')
    shapes = {key: torch.empty(shape, device='meta') for key, shape, *_ in fixture['state']}
    with torch.device('meta'):
        model = get_converter('pvtv2').model_for(shapes)
    assert dict(PVTv2.arch_settings[arch]) == model.backbone.arch


def test_unknown_and_missing_are_reported(official: dict) -> None:
    converter = get_converter('pvtv2')
    changed = {**official, 'pos_embed1': torch.zeros(1)}
    del changed['norm2.bias']
    conversion = converter.convert(changed, converter.model_for(changed))
    assert conversion.unexpected == ['pos_embed1']
    assert conversion.missing == ['backbone.stages.1.norm.bias']


def test_another_model_is_refused(official: dict) -> None:
    deeper = {**official, 'block1.2.norm1.weight': torch.zeros(32)}
    with pytest.raises(ValueError, match=r'no checkpoint of PVTv2 or MiT b0, .*\(3, 2, 2, 2\)'):
        get_converter('pvtv2').model_for(deeper)


@pytest.fixture(scope='module')
def mmdet_model() -> nn.Module:
    """MMDetection's class as B0, with weights drawn at random."""
    from mmdet.models.backbones import PyramidVisionTransformerV2

    torch.manual_seed(0)
    model = PyramidVisionTransformerV2(
        embed_dims=32, num_layers=[2, 2, 2, 2], drop_path_rate=0.0
    ).eval()
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim == 1:
            parameter.data += 0.1 * noise
        else:
            parameter.data = noise / parameter[0].numel() ** 0.5
    return model


@torch.no_grad()
def test_mmdet_puts_out_the_same(mmdet_model: nn.Module) -> None:
    converter = get_converter('mmdet-pvtv2')
    weights = mmdet_model.state_dict()
    ours = converter.model_for(weights).eval()
    conversion = converter.convert(weights, ours)
    assert (conversion.missing, conversion.unexpected, conversion.dropped) == ([], [], {})
    ours.load_state_dict(conversion.state_dict)
    x = torch.randn(1, 3, 70, 97)
    outs, theirs = ours['backbone'](x), mmdet_model(x)
    for one, other in zip(outs, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    # What is left is the epsilon that MMDetection has in all norms: with the official one it is gone.
    changed = []
    for name, module in mmdet_model.named_modules():
        if isinstance(module, nn.LayerNorm) and name.endswith(('0.norm', 'attn.norm')):
            changed.append(module)
            module.eps = 1e-5
    assert len(changed) == 4 + 6
    for image in (x, torch.randn(1, 3, 64, 96)):
        for one, other in zip(ours['backbone'](image), mmdet_model(image), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_detector_keeps_its_heads(mmdet_model: nn.Module, convert_file: Callable) -> None:
    weights = {f'backbone.{key}': value for key, value in mmdet_model.state_dict().items()}
    weights |= {'neck.lateral_convs.0.conv.weight': torch.ones(1), 'bbox_head.x': torch.zeros(1)}
    converted = convert_file(weights)
    assert converted.source == 'mmdet-pvtv2'
    assert converted.complete
    assert converted.conversion.state_dict['neck.lateral_convs.0.conv.weight'] == 1
    key = 'backbone.layers.1.1.0.attn.attn.in_proj_weight'
    names = converted.conversion.names[key]
    assert names == tuple(f'backbone.stages.1.blocks.0.attn.{k}.weight' for k in ('q', 'kv'))
    joined = torch.cat([converted.conversion.state_dict[name] for name in names])
    assert torch.equal(joined, weights[key])


@torch.no_grad()
@pytest.mark.parametrize('arch', ['mit-b0', 'mit-b1'])
def test_mmseg_puts_out_the_same(arch: str) -> None:
    from mmseg.models.backbones import MixVisionTransformer

    torch.manual_seed(0)
    settings = PVTv2.arch_settings[arch]
    theirs = MixVisionTransformer(
        embed_dims=settings['embed_dims'][0], num_layers=list(settings['depths']),
        num_heads=[1, 2, 5, 8], drop_path_rate=0.0,
    ).eval()  # fmt: skip
    for parameter in theirs.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
    converter = get_converter('mmdet-pvtv2')
    ours = converter.model_for(theirs.state_dict()).eval()
    assert ours['backbone'].arch == settings
    conversion = converter.convert(theirs.state_dict(), ours)
    assert (conversion.missing, conversion.unexpected, conversion.dropped) == ([], [], {})
    ours.load_state_dict(conversion.state_dict)
    for module in (*ours.modules(), *theirs.modules()):  # see the converter
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    for size in ((64, 64), (70, 97)):
        x = torch.randn(1, 3, *size)
        for one, other in zip(ours['backbone'](x), theirs(x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
