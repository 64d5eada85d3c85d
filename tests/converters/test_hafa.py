"""Gradients and running statistics of the official parts, and what the converter says of its keys.

Outputs: tests/parity.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spm_mm.converters import get_converter
from spm_mm.errors import UserError
from tests.parity.fixtures import distances, make_inputs, make_state_dict, read_fixture
from tests.parity.twins import OFFICIAL_CODE

FIXTURES = Path(__file__).parents[1] / 'parity' / 'oracles_hafa'


def loaded(name: str) -> tuple[dict, nn.Module, dict[str, str]]:
    """A fixture, our part with its weights, and our names by the official ones."""
    fixture = read_fixture(FIXTURES / f'{name}.json')
    official = make_state_dict(fixture)
    code = OFFICIAL_CODE['hafa']
    twin = code.make_twin(fixture['source']['callable'], fixture['config'], official)
    full_keys = {key: twin.full_key(key) for key in official}
    renamed = {full_keys[key]: value for key, value in official.items()}
    conversion = code.converter.convert(renamed, twin.module)
    twin.module.load_state_dict(conversion.state_dict)
    names = {k: conversion.names[f][0] for k, f in full_keys.items() if f in conversion.names}
    return fixture, twin.module, names


def weighted(x: Tensor, seed: int) -> Tensor:
    draw = np.random.RandomState(seed).standard_normal(tuple(x.shape)).astype(np.float32)
    return (x * torch.from_numpy(draw)).sum()


def check(found: Tensor, expected: dict) -> None:
    if expected['l2'] < 1e-3 * np.sqrt(found.numel()):  # rounding alone
        assert found.abs().max() < 1e-3
        return
    assert max(distances(found, expected).values()) < 1e-4


def test_gradients_of_the_clustering() -> None:
    fixture, module, names = loaded('hafa_sia')
    stored = fixture['gradients']
    (x,) = make_inputs(stored['input'])
    x.requires_grad_()
    tokens = module.get_submodule('backbone.mergings.2')(x)
    (weighted(tokens.x, 1) + weighted(tokens.context.flatten(1, 2), 2)).backward()
    check(x.grad.flatten(1, 2), stored['input_tokens'])
    own = dict(module.named_parameters())
    for key, expected in stored['params'].items():
        if expected is None:  # no gradient in the official model, so not here
            assert key not in names
        else:
            check(own[names[key]].grad, expected)


def test_training_of_the_local_aggregation() -> None:
    fixture, module, names = loaded('hafa_laa')
    stored = fixture['train_mode']
    (x,) = make_inputs(stored['input'])
    x = x.permute(0, 2, 3, 1).contiguous().requires_grad_()
    out = module.get_submodule('backbone.mergings.0').train()(x).flatten(1, 2)
    weighted(out, 1).backward()
    check(out.detach(), stored['outputs']['out_tokens'])
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    for key, expected in stored['grads'].items():
        check(x.grad.flatten(1, 2) if key == 'input_tokens' else own[names[key]].grad, expected)
    for key, expected in stored['after'].items():
        check(own[names[key]], expected)


@pytest.mark.parametrize(
    ('source', 'fixture', 'unused'),
    [
        ('hafa', 'hafa_pvt_tiny', {'cls_token', 'norm4.weight', 'patch_embed4.proj_q.weight'}),
        ('hafa', 'hafa_pvt_tiny_dense', {'norm4.bias', 'patch_embed4.proj_q.bias'}),
        ('hafa-pvtv2', 'hafa_pvt_v2_b1', {'ctm3.proj_q.weight', 'ctm3.proj_q.bias'}),
    ],
)
def test_unused_layers_are_reported(source: str, fixture: str, unused: set[str]) -> None:
    official = make_state_dict(read_fixture(FIXTURES / f'{fixture}.json'))
    converter = get_converter(source)
    conversion = converter.convert(official, converter.model_for(official))
    assert unused <= set(conversion.dropped)
    assert not conversion.unexpected
    assert not conversion.missing
    assert f'dropped: {min(unused)} (never used by the official model)' in conversion.report()


@pytest.mark.parametrize('source', ['hafa', 'hafa-pvtv2'])
def test_another_checkpoint_is_refused(source: str) -> None:
    with pytest.raises(UserError, match=r'no checkpoint of PVT.* with HAFA'):
        get_converter(source).model_for({'head.weight': torch.zeros(1)})
