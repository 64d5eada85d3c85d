import pytest
import torch

from spm_mm.backbones import PVT
from spm_mm.converters import Converter, get_converter


@pytest.fixture(scope='module')
def official() -> dict[str, torch.Tensor]:
    """Names and shapes of the official PVT-Tiny, from a table of its own."""
    table = {'cls_token': (1, 1, 512), 'norm.weight': (512,), 'norm.bias': (512,)}
    table |= {'head.weight': (1000, 512), 'head.bias': (1000,)}
    dims, cells, ratios, srs = (64, 128, 320, 512), (3136, 784, 196, 50), (8, 8, 4, 4), (8, 4, 2, 1)
    for i, (c, n, r, sr) in enumerate(zip(dims, cells, ratios, srs, strict=True), start=1):
        k, c_in = (4, 3) if i == 1 else (2, dims[i - 2])
        table |= {f'pos_embed{i}': (1, n, c), f'patch_embed{i}.proj.weight': (c, c_in, k, k)}
        table |= {
            f'patch_embed{i}.{name}': (c,) for name in ('proj.bias', 'norm.weight', 'norm.bias')
        }
        for b in range(2):
            block = f'block{i}.{b}.'
            linears = {'attn.q': (c, c), 'attn.kv': (2 * c, c), 'attn.proj': (c, c)}
            linears |= {'mlp.fc1': (r * c, c), 'mlp.fc2': (c, r * c)}
            if sr > 1:
                linears['attn.sr'] = (c, c, sr, sr)
            for name, shape in linears.items():
                table |= {f'{block}{name}.weight': shape, f'{block}{name}.bias': shape[:1]}
            norms = ['norm1', 'norm2', *(['attn.norm'] if sr > 1 else [])]
            table |= {
                f'{block}{norm}.{kind}': (c,) for norm in norms for kind in ('weight', 'bias')
            }
    return {name: torch.randn(shape) for name, shape in table.items()}


@pytest.fixture
def converter() -> Converter:
    return get_converter('pvt')


def test_everything_arrives(converter: Converter, official: dict) -> None:
    model = converter.model_for(official)
    conversion = converter.convert(official, model)
    assert (conversion.missing, conversion.unexpected, conversion.dropped) == ([], [], {})
    assert set(conversion.reshaped) == {f'pos_embed{i}' for i in range(1, 5)}
    assert sum(v.numel() for v in conversion.state_dict.values()) == sum(
        v.numel() for v in official.values()
    )
    model.load_state_dict(conversion.state_dict)
    assert torch.equal(
        model.backbone.stages[3].position.table.flatten(1, 2), official['pos_embed4'][:, 1:]
    )
    assert torch.equal(model.backbone.stages[3].cls_position, official['pos_embed4'][:, :1])


def test_every_kind_of_key_is_reported(converter: Converter, official: dict) -> None:
    model = converter.model_for(official)
    changed = dict(official)
    del changed['block1.0.attn.q.bias']
    changed['optimizer_state'] = torch.zeros(1)
    changed['norm.weight'] = torch.zeros(3)
    conversion = converter.convert(changed, model)
    assert conversion.missing == [
        'backbone.stages.0.blocks.0.attn.q.bias',
        'backbone.norms.3.weight',
    ]
    assert sorted(conversion.unexpected) == ['norm.weight', 'optimizer_state']
    report = conversion.report()
    for line in (
        'missing: backbone.norms.3.weight',
        'unexpected: optimizer_state',
        'reshaped: pos_embed4',
    ):
        assert line in report


def test_another_model_is_refused(converter: Converter, official: dict) -> None:
    deeper = {**official, 'block1.2.norm1.weight': torch.zeros(64)}
    with pytest.raises(ValueError, match=r'no checkpoint of PVT .* \(3, 2, 2, 2\)'):
        converter.model_for(deeper)
    with pytest.raises(ValueError, match='no checkpoint of PVT'):
        converter.model_for({'conv1.weight': torch.zeros(1)})
    with pytest.raises(ValueError, match=r"no converter for source 'pvtt'.*did you mean 'pvt'"):
        get_converter('pvtt')


def test_number_of_classes_is_kept(converter: Converter, official: dict) -> None:
    fewer = {**official, 'head.weight': torch.zeros(10, 512), 'head.bias': torch.zeros(10)}
    assert converter.model_for(fewer).head['fc'].out_features == 10
    assert isinstance(converter.model_for(fewer).backbone, PVT)
