"""Stages that run on tokens, behind mergings that leave the grid (HAFA)."""

import pytest
import torch

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.ops import TokenMap
from spm_mm.registry import MODELS, registered
from tests import testing

CONV, LAA, SIA = (dict(type=f'spm_mm.{name}Merging') for name in ('Conv', 'Deformable', 'Cluster'))
COMBINATIONS = [
    (SIA, SIA, SIA),
    (LAA, SIA, SIA),
    (LAA, LAA, SIA),
    (LAA, LAA, LAA),
    (LAA, CONV, CONV),
    (CONV, LAA, SIA),
    (SIA, CONV, SIA),
]
TAKERS = [name for name, cls in registered(HierarchicalBackbone).items() if cls.takes_tokens]


def build(backbone: str, *mergings: dict, **options) -> HierarchicalBackbone:
    return MODELS.build(testing.tiny_config(backbone, **options) | dict(merging=[*mergings]))


@pytest.mark.parametrize(
    'mergings', COMBINATIONS, ids=lambda m: '-'.join(c['type'][7:11] for c in m)
)
@pytest.mark.parametrize('backbone', TAKERS)
def test_every_combination(backbone: str, mergings: tuple) -> None:
    """HAFA, Table 4 and section 4.4, and a convolution behind a clustering."""
    model = build(backbone, *mergings)
    testing.check_shapes(model)
    testing.check_gradients(model)


@pytest.mark.parametrize('backbone', TAKERS)
@pytest.mark.parametrize('context', ['dense', 'clusters'])
def test_every_context(backbone: str, context: str) -> None:
    sia = dict(SIA, context=context)
    model = build(backbone, LAA, sia, sia)
    testing.check_shapes(model)
    testing.check_gradients(model)


@pytest.mark.parametrize('backbone', TAKERS)
def test_outputs(backbone: str) -> None:
    """Tokens for the neck; their map for all others; their plain mean for a classifier."""
    image = torch.randn(2, 3, 70, 97)
    outs = {}
    for out_type in ('tokens', 'featmap', 'avg_featmap'):
        torch.manual_seed(0)
        outs[out_type] = build(backbone, LAA, LAA, SIA, out_type=out_type).eval()(image)
    *maps, tokens = outs['tokens']
    assert isinstance(tokens, TokenMap)
    assert all(out.is_contiguous() for out in maps)
    torch.testing.assert_close(tokens.to_map().permute(0, 3, 1, 2), outs['featmap'][3])
    torch.testing.assert_close(tokens.x.mean(dim=1), outs['avg_featmap'][0])


@pytest.mark.parametrize('backbone', TAKERS)
def test_mixed_precision(backbone: str) -> None:
    testing.check_gradients(build(backbone, LAA, LAA, SIA), mixed=True)


def test_class_token_among_tokens() -> None:
    model = build('PVT', LAA, LAA, SIA, out_type='cls_token')
    testing.check_gradients(model)
    assert model.eval()(torch.randn(2, 3, 64, 64))[0].shape == (2, 64)


@pytest.mark.parametrize('backbone', [name for name in testing.backbones() if name not in TAKERS])
def test_families_that_need_a_grid_say_so(backbone: str) -> None:
    with pytest.raises(ValueError, match=rf'merging\[2\] .* leaves the grid .* of {backbone} need'):
        build(backbone, LAA, LAA, SIA)


def test_nothing_without_a_gradient() -> None:
    """A stage without attention has no use for keys and values."""
    attention = ('sr', 'sr', 'sr', None)
    with pytest.raises(ValueError, match=r"attention\[3\] is None.*context='clusters'"):
        build('PVT', LAA, LAA, SIA, attention=attention)
    sia = dict(SIA, context='clusters')
    testing.check_gradients(build('PVT', LAA, LAA, sia, attention=attention))
