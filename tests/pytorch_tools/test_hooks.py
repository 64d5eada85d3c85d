"""Hooks on modules: profilers, activation maps, quantization observers and FSDP rely on them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.pytorch_tools.conftest import Subject, assert_same, each_variant, image, loss


def owners(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that own a parameter."""
    return {
        name: module
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    }


# Each kind alone: a fast route may look for one of them and go past another.
@pytest.mark.parametrize('hook', ['forward_hook', 'forward_pre_hook', 'full_backward_hook'])
@each_variant
def test_hooks_fire_on_every_module_with_a_parameter(subject: Subject, hook: str) -> None:
    model, fired = subject.build(), set()
    modules = owners(model)
    for name, module in modules.items():
        register: Callable = getattr(module, f'register_{hook}')
        register(lambda *_, name=name: fired.add(name))
    loss(model(image().requires_grad_())).backward()
    assert sorted(modules.keys() - fired) == []


@each_variant
def test_forward_hooks_fire_in_inference(subject: Subject) -> None:
    model, fired = subject.build(), set()
    modules = owners(model)
    for name, module in modules.items():
        module.register_forward_hook(lambda *_, name=name: fired.add(name))
    with torch.no_grad():
        model(image())
    assert sorted(modules.keys() - fired) == []


@each_variant
def test_hooks_that_change_nothing_change_no_output(subject: Subject) -> None:
    """A fast route past the layers, and the route through them, give the same."""
    model = subject.build()
    with torch.no_grad():
        plain = model(image())
        for module in model.modules():
            module.register_forward_hook(lambda module, args, output: None)
        assert_same(model(image()), plain)


@each_variant
def test_a_changed_output_of_any_layer_is_felt(subject: Subject) -> None:
    """What a layer puts out goes on: nothing reads its weight instead."""
    model, unfelt = subject.build(), []

    def change(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return output + torch.linspace(0, 1, output.numel(), device=output.device).view_as(output)

    with torch.no_grad():
        plain = model(image())
        for name, module in owners(model).items():
            if list(module.children()):
                continue
            handle = module.register_forward_hook(change)
            if all(torch.allclose(*pair) for pair in zip(model(image()), plain, strict=True)):
                unfelt.append(name)
            handle.remove()
    assert unfelt == []
