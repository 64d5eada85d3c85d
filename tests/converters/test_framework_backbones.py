"""Converters of Shunted and NAT beside what the parity tests show of them."""

from collections.abc import Callable

import pytest
import torch

from spm_mm.backbones import NAT, ShuntedTransformer
from spm_mm.converters import get_converter
from spm_mm.errors import UserError
from tests.parity.fixtures import read_fixture


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


def official_shunted(arch: str) -> dict[str, torch.Tensor]:
    """The same for Shunted, whose classifiers have 1000 classes."""
    settings = ShuntedTransformer.arch_settings[arch]
    table, norms, layers, before = {}, {'patch_embed1.norm': 64}, {'head': (1000, 512)}, 64
    for i in range(1 + settings['stem_convs']):
        table[f'patch_embed1.conv.{3 * i}.weight'] = (64, 64, 3, 3) if i else (64, 3, 7, 7)
        norm = f'patch_embed1.conv.{3 * i + 1}'
        norms[norm] = 64
        table |= {f'{norm}.running_mean': (64,), f'{norm}.running_var': (64,)}
        table[f'{norm}.num_batches_tracked'] = ()
    layers[f'patch_embed1.conv.{3 * i + 3}'] = (64, 64, 2, 2)
    rows = (settings[key] for key in ('embed_dims', 'depths', 'sr_ratios', 'mlp_ratios'))
    for i, (c, depth, sr_ratio, mlp_ratio) in enumerate(zip(*rows, strict=True), start=1):
        norms[f'norm{i}'] = c
        if i > 1:
            layers[f'patch_embed{i}.proj'] = (c, before, 3, 3)
            norms[f'patch_embed{i}.norm'] = c
        before, hidden = c, c * mlp_ratio
        for b in range(depth):
            parts = {'attn.q': (c, c), 'attn.proj': (c, c), 'mlp.fc1': (hidden, c)}
            parts |= {'mlp.dwconv.dwconv': (hidden, 1, 3, 3), 'mlp.fc2': (c, hidden)}
            if sr_ratio == 1:
                parts |= {'attn.kv': (2 * c, c), 'attn.local_conv': (c, 1, 3, 3)}
            else:
                for k, side in ((1, sr_ratio), (2, sr_ratio // 2)):
                    parts |= {f'attn.sr{k}': (c, c, side, side), f'attn.norm{k}': (c,)}
                    parts |= {f'attn.kv{k}': (c, c), f'attn.local_conv{k}': (c // 2, 1, 3, 3)}
            parts |= {'norm1': (c,), 'norm2': (c,)}
            layers |= {f'block{i}.{b}.{name}': shape for name, shape in parts.items()}
    layers |= {name: (c,) for name, c in norms.items()}
    for name, shape in layers.items():
        table |= {f'{name}.weight': shape, f'{name}.bias': shape[:1]}
    return {name: torch.empty(shape, device='meta') for name, shape in table.items()}


@pytest.mark.parametrize('name', ['nat_mini', 'nat_tiny', 'shunted_t', 'shunted_s'])
def test_the_tables_are_those_of_the_official_code(name: str, root) -> None:
    """Where there are fixtures; the NAT fixtures hold what either form of a model has."""
    fixture = read_fixture(root / f'tests/parity/oracles_hosts/{name}.json')
    official = {key: tuple(shape) for key, shape, *_ in fixture['state']}
    if name.startswith('nat'):
        table = official_nat(name[4:], dense=False) | official_nat(name[4:], dense=True)
        official |= {'head.weight': (10, official['head.weight'][1]), 'head.bias': (10,)}
    else:
        table = official_shunted({'t': 'tiny', 's': 'small'}[name[-1]])
    assert {key: tuple(value.shape) for key, value in table.items()} == official


@pytest.mark.parametrize('arch', ShuntedTransformer.arch_settings)
def test_every_shunted_arrives(arch: str) -> None:
    weights = official_shunted(arch)
    converter = get_converter('shunted')
    with torch.device('meta'):
        model = converter.model_for(weights)
    assert model.backbone.arch == ShuntedTransformer.arch_settings[arch]
    conversion = converter.convert(weights, model)
    assert (conversion.missing, conversion.unexpected, conversion.dropped) == ([], [], {})
    assert conversion.reshaped == {}


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


def test_a_detectors_checkpoint_keeps_its_heads(convert_file: Callable) -> None:
    weights = {k: torch.zeros(v.shape) for k, v in official_nat('mini', dense=True).items()}
    weights = {f'backbone.{k}': v for k, v in weights.items()}
    weights |= {'rpn_head.rpn_conv.weight': torch.ones(1), 'backbone.other': torch.empty(1)}
    converted = convert_file(weights, 'mask_rcnn_nat_mini.pth')
    assert converted.found.startswith("NAT 'mini' with rpn_head of SHI-Labs")
    assert converted.conversion.missing == []
    assert converted.conversion.unexpected == ['backbone.other']
    assert converted.conversion.state_dict['rpn_head.rpn_conv.weight'] == 1


def test_nat_is_told_from_dinat(convert_file: Callable) -> None:
    """Both have the same keys and shapes."""
    weights = {k: torch.zeros(v.shape) for k, v in official_nat('mini', dense=False).items()}
    assert convert_file(weights, 'nat_mini_1k.pth').source == 'nat'
    assert convert_file(weights, 'mini.pth', source='nat').source == 'nat'
    with pytest.raises(UserError, match=r'of NAT or of DiNAT: .* say so with --source nat'):
        convert_file(weights, 'mini.pth')
    for source in (None, 'nat'):
        with pytest.raises(UserError, match='a checkpoint of DiNAT, by its name'):
            convert_file(weights, 'dinat_mini.pth', source=source)
    with pytest.raises(UserError, match='a checkpoint of DiNAT'):
        convert_file({'args': {'model': 'dinat_mini'}, 'state_dict': weights}, 'nat_mini.pth')


@pytest.mark.parametrize('source', ['nat', 'shunted'])
def test_another_model_is_refused(source: str) -> None:
    for weights in ({'conv1.weight': torch.zeros(1)}, {'patch_embed.norm.weight': torch.zeros(64)}):
        with pytest.raises(ValueError, match=r'no checkpoint of (NAT mini|Shunted tiny)'):
            get_converter(source).model_for(weights)
