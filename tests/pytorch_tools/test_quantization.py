"""Linear layers in 8 bits, by torchao and by PyTorch's own ``quantize_dynamic``."""

import copy
import warnings

import pytest
import torch
from torch import nn

from tests.pytorch_tools.conftest import Subject, declared, distance, each_variant, image, linears

BOUND = 0.06
"""Relative L2 distance from float32: 8 bits of weights and activations are 0.01 a layer."""
JUMPS = 0.5
"""The same where tokens change their clusters or regions; two unrelated outputs have about 1.4."""


def check(other: nn.Module, model: nn.Module) -> None:
    bound = JUMPS if declared(model, 'discontinuous') else BOUND
    with torch.no_grad():
        outs = other(image())
        assert 0 < distance(outs, model(image())) < bound


@each_variant
def test_quantize_dynamic(subject: Subject) -> None:
    quantize_dynamic = getattr(torch.ao.quantization, 'quantize_dynamic', None)
    if quantize_dynamic is None:
        pytest.skip('this PyTorch has no quantize_dynamic any more; torchao has')
    model = subject.build()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # deprecated, and said so
        other = quantize_dynamic(model, {nn.Linear})
        assert list(linears(other)) == []
        check(other, model)


@each_variant
def test_torchao(subject: Subject) -> None:
    quantization = pytest.importorskip('torchao.quantization')
    config = quantization.Int8DynamicActivationInt8WeightConfig()
    model = subject.build()
    other = copy.deepcopy(model)
    # torchao 0.18 fails with a single input feature, which SG-Former's regions of rate 1 have.
    quantization.quantize_(
        other, config, lambda m, _: isinstance(m, nn.Linear) and m.in_features > 1
    )
    layers = [(name, layer) for name, layer in linears(other) if layer.in_features > 1]
    kept = [name for name, layer in layers if type(layer.weight) is nn.Parameter]
    assert layers
    assert kept == []
    check(other, model)
