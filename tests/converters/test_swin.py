"""Swin's checkpoints: those of the frameworks' own classes, and the official ones."""

import importlib
from collections.abc import Callable

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from spm_mm.backbones import SwinTransformer
from spm_mm.converters import get_converter
from tests.parity.fixtures import make_state_dict, read_fixture

SIZE = (65, 98)  # stage 1 has 17 x 25 tokens, stage 4 has 3 x 4


def randomize(model: nn.Module) -> nn.Module:
    """Weights drawn at random, so that no two layers can be taken for each other."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim == 1:
            parameter.data += 0.1 * noise
        else:
            parameter.data = noise / parameter[0].numel() ** 0.5
    model.eval()
    return model


def convert(source: str, weights: dict) -> nn.Module:
    """Our model with all of the weights."""
    converter = get_converter(source)
    ours = converter.model_for(weights).eval()
    conversion = converter.convert(weights, ours)
    assert (conversion.missing, conversion.unexpected) == ([], [])
    assert all(key.endswith('relative_position_index') for key in conversion.dropped)
    ours.load_state_dict(conversion.state_dict)
    return ours


@pytest.fixture(scope='module')
def mmdet_model() -> nn.Module:
    from mmdet.models.backbones import SwinTransformer

    return randomize(SwinTransformer(drop_path_rate=0.0))


@torch.no_grad()
@pytest.mark.parametrize(
    ('framework', 'arch'), [('mmdet', 'tiny'), ('mmseg', 'tiny'), ('mmdet', 'base')]
)
def test_the_backbones_of_frameworks_put_out_the_same(framework: str, arch: str) -> None:
    backbones = importlib.import_module(f'{framework}.models.backbones')
    base = dict(embed_dims=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32))
    options = base if arch == 'base' else {}
    theirs = randomize(backbones.SwinTransformer(drop_path_rate=0.0, **options))
    ours = convert('openmmlab-swin', theirs.state_dict())
    assert ours['backbone'].arch == SwinTransformer.arch_settings[arch]
    for size in (SIZE, (64, 96)):
        x = torch.randn(1, 3, *size)
        for one, other in zip(ours['backbone'](x), theirs(x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('window_size', [7, 5])
def test_a_classifier_of_mmpretrain_puts_out_the_same(window_size: int) -> None:
    from mmpretrain.models import ImageClassifier

    init_default_scope('mmpretrain')  # of what the classifier builds

    model = randomize(
        ImageClassifier(
            backbone=dict(type='SwinTransformer', arch='tiny', window_size=window_size),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', in_channels=768, num_classes=11),
        )
    )
    ours = convert('openmmlab-swin', model.state_dict())
    assert ours.head['fc'].out_features == 11
    # 224: the last map is one window, which is not shifted; MMPretrain refuses smaller ones.
    for size in ((224, 224), (229, 298))[: 1 + (window_size == 7)]:
        x = torch.randn(1, 3, *size)
        torch.testing.assert_close(ours(x), model(x, mode='tensor'), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_official_names_against_the_host(mmdet_model: nn.Module, root) -> None:
    """The official order of a merging's channels, by MMDetection's own conversion."""
    from mmdet.models.backbones.swin import swin_converter

    fixture = make_state_dict(read_fixture(root / 'tests/parity/oracles_hosts/swin_t.json'))
    official = {official_name(key): value for key, value in fixture.items()}
    frameworks = {k.removeprefix('backbone.'): v for k, v in swin_converter(official).items()}
    own = mmdet_model.state_dict()
    mmdet_model.load_state_dict(
        {
            key: value if key.endswith('relative_position_index') else frameworks[key]
            for key, value in own.items()
        }
    )
    # A classifier of the official code has the last norm alone.
    official = {k: v for k, v in official.items() if not k.startswith(('norm0', 'norm1', 'norm2'))}
    official['norm.weight'], official['norm.bias'] = (
        official.pop(f'norm3.{kind}') for kind in ('weight', 'bias')
    )
    official['layers.0.blocks.1.attn.relative_position_index'] = torch.zeros(49, 49)
    ours = convert('swin', official)
    maps = []
    ours.backbone.norms[-1].register_forward_hook(lambda *args: maps.append(args[2]))
    x = torch.randn(1, 3, 256, 320)  # maps that are larger than a window, shifted in both
    ours(x)
    theirs = mmdet_model(x)[-1].permute(0, 2, 3, 1)
    torch.testing.assert_close(maps[0], theirs, rtol=1e-4, atol=1e-4)


def official_name(key: str) -> str:
    """What the official code calls a tensor of MMPretrain."""
    for theirs, official in (
        ('backbone.', ''), ('patch_embed.projection', 'patch_embed.proj'), ('stages.', 'layers.'),
        ('w_msa.', ''), ('ffn.layers.0.0', 'mlp.fc1'), ('ffn.layers.1', 'mlp.fc2'),
        ('head.fc', 'head'),
    ):  # fmt: skip
        key = key.replace(theirs, official)
    return key


def test_unknown_missing_and_foreign_are_reported(
    mmdet_model: nn.Module, convert_file: Callable
) -> None:
    converter = get_converter('openmmlab-swin')
    weights = {f'backbone.{key}': value for key, value in mmdet_model.state_dict().items()}
    weights |= {'neck.x': torch.zeros(1), 'backbone.absolute_pos_embed': torch.zeros(1)}
    del weights['backbone.norm1.bias']
    conversion = convert_file(weights).conversion
    assert conversion.unexpected == ['backbone.absolute_pos_embed']
    assert conversion.missing == ['backbone.norms.1.bias']
    assert 'neck.x' in conversion.state_dict
    with pytest.raises(ValueError, match=r'no checkpoint of Swin tiny, .*\(0, 0, 0, 0\)'):
        converter.model_for({'conv1.weight': torch.zeros(1)})
