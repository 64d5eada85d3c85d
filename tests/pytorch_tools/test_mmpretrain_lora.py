"""Low-rank adapters by MMPretrain's ``LoRAModel``."""

import pytest
import torch
from torch import nn

from tests.pytorch_tools.conftest import (
    SUBJECTS,
    VARIANTS,
    Subject,
    assert_same,
    distance,
    image,
    linear_patterns,
    loss,
    shaken,
)

PAIRS = [
    pytest.param(subject, pattern, id=f'{subject}-{pattern}')
    for subject in SUBJECTS + VARIANTS
    for pattern in linear_patterns(subject.build())
]


@pytest.mark.parametrize(('subject', 'pattern'), PAIRS)
def test_adapters_of_a_pattern(subject: Subject, pattern: str) -> None:
    """They change the output as a change of the weights does, and alone get a gradient."""
    peft = pytest.importorskip('mmpretrain.models.peft')
    name = pattern.replace('.', r'\.')
    model = peft.LoRAModel(
        module=subject.config(), alpha=4, rank=2, targets=[dict(type=rf'.*\.{name}')]
    ).eval()
    base = subject.build()
    adapted = {n: m for n, m in model.module.named_modules() if isinstance(m, peft.lora.LoRALinear)}
    weights = base.state_dict()
    for key in list(weights):
        layer, _, last = key.rpartition('.')
        if layer in adapted:
            weights[f'{layer}.original_layer.{last}'] = weights.pop(key)
    model.module.load_state_dict(weights, strict=False)
    with torch.no_grad():
        assert_same(model(image()), base(image()), 'output with adapters of zero')
        for layer in adapted.values():
            shaken(layer.lora_up)
    outs = model(image())
    assert distance(outs, base(image())) > 1e-4, 'the adapters change nothing'
    loss(outs).backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ('.lora_' in key), key
    with torch.no_grad():
        for key, layer in adapted.items():
            change: nn.Linear = base.get_submodule(key)
            change.weight += layer.scaling * layer.lora_up.weight @ layer.lora_down.weight
        assert_same(base(image()), outs, 'output with merged adapters')
