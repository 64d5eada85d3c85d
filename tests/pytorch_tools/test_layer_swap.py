"""Libraries for 8 bits, float8 and low ranks replace layers by ``isinstance(module, nn.Linear)``."""

import torch
from torch import Tensor, nn

from tests.pytorch_tools.conftest import (
    Subject,
    assert_same,
    each_variant,
    image,
    linears,
    loss,
    replaced,
)  # fmt: skip


class OtherLinear(nn.Module):
    """A linear layer of another class, with the weight laid out in another way under another name."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.matrix = nn.Parameter(layer.weight.detach().T.contiguous())
        self.offset = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        out = x @ self.matrix
        return out if self.offset is None else out + self.offset


@each_variant
def test_other_linear_layers_compute_the_same(subject: Subject) -> None:
    model = subject.build()
    other = replaced(model, nn.Linear, OtherLinear)
    assert list(linears(model))
    assert not list(linears(other))
    first, second = image().requires_grad_(), image().requires_grad_()
    ours, theirs = model(first), other(second)
    assert_same(theirs, ours)
    loss(ours).backward()
    loss(theirs).backward()
    assert_same([second.grad], [first.grad], 'gradient')


@each_variant
def test_linear_layers_are_linear(subject: Subject) -> None:
    """A subclass of ``nn.Linear`` may not do anything else beside."""
    for name, layer in linears(subject.build()):
        x = torch.randn(3, layer.in_features)
        expected = nn.functional.linear(x, layer.weight, layer.bias)
        torch.testing.assert_close(
            layer(x), expected, msg=lambda text, name=name: f'{name}: {text}'
        )
