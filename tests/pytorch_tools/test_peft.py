"""Low-rank adapters by Hugging Face's peft."""

import pytest
import torch

from tests.pytorch_tools.conftest import (
    Subject,
    assert_same,
    distance,
    each_variant,
    image,
    linear_patterns,
    loss,
    shaken,
)

peft = pytest.importorskip('peft', reason='peft is not installed', exc_type=ImportError)


@each_variant
def test_adapters_of_every_pattern(subject: Subject) -> None:
    base = subject.build()
    with torch.no_grad():
        plain = base(image())
    for pattern in linear_patterns(base):
        config = peft.LoraConfig(
            r=2, lora_alpha=4, target_modules=[pattern], init_lora_weights=False
        )
        model = peft.get_peft_model(subject.build(), config).eval()
        for name, parameter in model.named_parameters():
            if 'lora_B' in name:
                shaken(model.get_submodule(name.rpartition('.')[0]))
            assert parameter.requires_grad == ('lora_' in name), name
        outs = model(image())
        assert distance(outs, plain) > 1e-4, f'adapters of {pattern} change nothing'
        loss(outs).backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == ('lora_' in name), name
        with torch.no_grad():
            assert_same(model.merge_and_unload()(image()), outs, f'output with merged {pattern}')
