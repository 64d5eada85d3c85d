"""The parameter groups that a Runner of each framework would train with."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from tests import testing

CONSTRUCTOR = 'spm_mm.LayerDecayOptimWrapperConstructor'
BY_KIND = dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0)
OFFSET = dict(custom_keys={'offset.weight': dict(lr_mult=0.01)})


class Model(nn.Module):
    """A backbone and a head, under the names that the frameworks give them."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.decode_head = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))


def settings(model: nn.Module, scope: str = 'mmseg', **paramwise) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter, by name."""
    init_default_scope(scope)
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            constructor=CONSTRUCTOR,
            paramwise_cfg=paramwise,
        ),
    )
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in wrapper.optimizer.param_groups:
        for p in group['params']:
            assert id(p) not in found
            found[id(p)] = (group['lr'], group['weight_decay'])
    assert found.keys() == names.keys()
    return {names[key]: value for key, value in found.items()}


@pytest.fixture
def model() -> Model:
    return Model(testing.build_tiny('LIT', out_type='cls_token'))


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_offsets_learn_slower_weights_alone(model: Model, scope: str) -> None:
    found = settings(model, scope, **BY_KIND, **OFFSET)
    slow = {name for name, (lr, _) in found.items() if lr == pytest.approx(1e-5)}
    assert slow == {f'backbone.mergings.{i}.offset.weight' for i in range(3)}
    assert {lr for name, (lr, _) in found.items() if name not in slow} == {1e-3}
    assert {found[name][1] for name in slow} == {0.05}
    assert found['backbone.mergings.0.offset.bias'] == (1e-3, 0.0)


@pytest.mark.parametrize('backbone', testing.backbones())
@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_layer_decay_on_every_backbone(backbone: str, scope: str) -> None:
    model = Model(testing.build_tiny(backbone))
    found = settings(model, scope, layer_decay_rate=0.5)
    for name, (lr, decay) in found.items():
        layer, layers = model.backbone.get_layer_depth(name, 'backbone.')
        assert lr == pytest.approx(1e-3 * 0.5 ** (layers - 1 - layer)), name
        assert decay == 0.05
    stem = [lr for name, (lr, _) in found.items() if name.startswith('backbone.stem.')]
    assert set(stem) == {min(lr for lr, _ in found.values())}
    assert found['decode_head.0.weight'][0] == 1e-3


def test_rules_add_to_each_other(model: Model) -> None:
    keys = {
        'decode_head': dict(lr_mult=10.0),
        'cls_': dict(decay_mult=0.0),
        'mergings': dict(lr_mult=0.5),
        'mergings.0.offset': dict(lr_mult=0.1),
        'norms': dict(decay_mult=2.0),
    }
    found = settings(model, layer_decay_rate=0.5, **BY_KIND, custom_keys=keys)
    layers = sum(model.backbone.depths) + 2
    expected = {
        'decode_head.0.weight': (1e-2, 0.05),
        'decode_head.1.weight': (1e-2, 0.0),  # a norm, although the key is the head's
        'backbone.norms.3.weight': (1e-3, 0.1),  # a norm, but its key says how it decays
        'backbone.stages.3.cls_token': (1e-3 * 0.5 ** (layers - 5), 0.0),
        'backbone.mergings.1.offset.weight': (5e-4 * 0.5 ** (layers - 4), 0.05),
        'backbone.mergings.0.offset.weight': (1e-4 * 0.5 ** (layers - 3), 0.05),
        'backbone.mergings.0.offset.bias': (1e-4 * 0.5 ** (layers - 3), 0.0),
    }
    assert {name: found[name] for name in expected} == {
        name: pytest.approx(value) for name, value in expected.items()
    }


def test_equal_settings_share_a_group_and_frozen_parameters_are_left_out(model: Model) -> None:
    model.backbone.stem.requires_grad_(False)
    init_default_scope('mmseg')
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            constructor=CONSTRUCTOR,
            paramwise_cfg={**BY_KIND, **OFFSET},
        ),
    )
    groups = wrapper.optimizer.param_groups
    assert sorted((g['lr'], g['weight_decay']) for g in groups) == [
        (pytest.approx(1e-5), 0.05),
        (1e-3, 0.0),
        (1e-3, 0.05),
    ]
    trained = {id(p) for group in groups for p in group['params']}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}
    before = model.backbone.mergings[0].offset.weight.clone()
    out = model.backbone(torch.randn(2, 3, 64, 64))[0]
    wrapper.update_params(out.square().sum())
    step = (model.backbone.mergings[0].offset.weight - before).abs().max()
    assert 0 < step <= 1.1e-5


def test_bad_input(model: Model) -> None:
    with pytest.raises(ValueError, match=r'layer_decay_rate must be .* got 1\.5'):
        settings(model, layer_decay_rate=1.5)
    with pytest.raises(ValueError, match='get_layer_depth, and Model has Linear'):
        settings(Model(nn.Linear(8, 8)), layer_decay_rate=0.9)
