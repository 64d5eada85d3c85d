"""Weights for images of other channels, and for windows of another size."""

from pathlib import Path

import pytest
import torch

from spm_mm.backbones import loading
from spm_mm.errors import UserError
from spm_mm.ops.adapt_weights import adapt_in_channels, adapt_weights
from tests.testing import backbones, build_tiny


def test_rule_is_timms() -> None:
    timm = pytest.importorskip('timm', reason='timm is not installed')
    weight = torch.randn(8, 3, 4, 4)
    for channels in (1, 2, 3, 4, 6, 7, 13):
        expected = timm.models.adapt_input_conv(channels, weight)
        torch.testing.assert_close(adapt_in_channels(weight, channels), expected)
    assert adapt_in_channels(torch.ones(2, 5, 3, 3), 1).eq(5).all()
    with pytest.raises(UserError, match='in_channels must be a whole number of 1 or more, got 0'):
        adapt_in_channels(weight, 0)


@torch.no_grad()
@pytest.mark.parametrize('backbone', backbones())
def test_grey_and_repeated_images_give_the_same(backbone: str) -> None:
    """One channel as three equal ones, six as three twice."""
    torch.manual_seed(0)
    # In float64: a last bit can change the order of SG-Former's tokens.
    model = build_tiny(backbone).double().eval()
    weights = model.state_dict()
    grey = torch.randn(1, 1, 64, 64).double()
    colour = torch.randn(1, 3, 64, 64).double()
    for channels, image, equal in (
        (1, grey, grey.expand(-1, 3, -1, -1)),
        (6, colour.repeat(1, 2, 1, 1), colour),
    ):
        other = build_tiny(backbone, in_channels=channels).double().eval()
        adapted, notes = adapt_weights(other, weights)
        assert len(notes) == 1
        assert f'3 channels of the image to {channels}, ' in notes[0]
        other.load_state_dict(adapted)
        for one, two in zip(other(image), model(equal), strict=True):
            torch.testing.assert_close(one, two)


@torch.no_grad()
@pytest.mark.parametrize(
    ('backbone', 'options', 'sizes'),
    [
        ('SwinTransformer', dict(window_size=5), 'from 13 x 13 to 9 x 9'),
        ('NAT', dict(kernel_size=5), 'from 13 x 13 to 9 x 9'),
        ('PVT', dict(img_size=96), 'from 56 x 56 to 24 x 24'),
        ('LIT', dict(img_size=96), 'from 56 x 56 to 24 x 24'),
        ('SGFormer', dict(img_size=96), 'from 56 x 56 to 24 x 24'),
    ],
)
def test_tables_are_resized_and_named(backbone: str, options: dict, sizes: str) -> None:
    weights = build_tiny(backbone).state_dict()
    before = {key: value.clone() for key, value in weights.items()}
    other = build_tiny(backbone, **options)
    own = {key: value.clone() for key, value in other.state_dict().items()}
    adapted, notes = adapt_weights(other, weights)
    assert notes[0].startswith(f'resized {sizes}: ')
    other.load_state_dict(adapted)
    changed = [k for k, v in other.state_dict().items() if weights[k].shape != v.shape]
    assert changed
    assert not any(torch.equal(own[key], other.state_dict()[key]) for key in changed)
    assert all(torch.equal(before[key], weights[key]) for key in before)  # nothing in place


def test_a_backbone_adapts_what_its_config_loads(tmp_path: Path, monkeypatch) -> None:
    torch.save(build_tiny('SwinTransformer').state_dict(), tmp_path / 'swin.pth')
    model = build_tiny(
        'SwinTransformer',
        in_channels=4,
        window_size=5,
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'swin.pth')),
    )
    before = model.stem.conv.weight.clone()
    said = []
    monkeypatch.setattr(loading, 'print_log', lambda text, *args: said.append(text))
    model.init_weights()
    log = '\n'.join(said)
    assert not torch.equal(before, model.stem.conv.weight)
    assert 'stem.conv.weight: 3 channels of the image to 4, repeated and scaled by 3/4' in log
    assert 'resized from 13 x 13 to 9 x 9: stages.0' in log


def test_shifts_keep_their_place_in_a_table() -> None:
    """No shift is the middle before and after, and up stays the opposite of down."""
    weights = build_tiny('NAT').state_dict()
    for key, value in weights.items():
        if key.endswith('relative_position_bias_table'):
            weights[key] = torch.arange(-6.0, 7.0)[:, None].expand_as(value)
    adapted, _ = adapt_weights(build_tiny('NAT', kernel_size=13), weights)
    table = next(v for k, v in adapted.items() if k.endswith('relative_position_bias_table'))[0]
    assert table.shape == (25, 25)
    torch.testing.assert_close(table, -table.flip(0))
    assert (table.diff(dim=0) > 0).all()
    torch.testing.assert_close(table, table[:, :1].expand_as(table))


def test_other_differences_are_left_to_the_loader() -> None:
    model = build_tiny('PVT')
    weights = model.state_dict()
    weights['stages.0.blocks.0.mlp.fc1.weight'] = torch.zeros(3, 3)
    weights['unknown'] = torch.zeros(1)
    weights['stem.conv.weight'] = torch.zeros(5, 4, 4, 4)
    adapted, notes = adapt_weights(model, weights)
    assert notes == []
    assert all(adapted[key] is value for key, value in weights.items())
