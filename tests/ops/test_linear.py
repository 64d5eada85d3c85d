import pytest
import torch
from torch.nn import functional as F

from spm_mm.ops import gelu_linear, gelu_linear_reference, linear

PAIRS = [(linear, F.linear), (gelu_linear, gelu_linear_reference)]


def results(function, x, weight, bias) -> list[torch.Tensor]:
    out = function(x, weight, bias)
    inputs = [t for t in (x, weight, bias) if t is not None]
    return [out, *torch.autograd.grad((out * torch.arange(out.shape[-1])).sum(), inputs)]


@pytest.mark.parametrize('pair', PAIRS)
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('rows', [(5,), (2, 30, 40), (3, 150, 160)])
def test_equals_the_reference(pair, bias: bool, rows: tuple[int, ...]) -> None:
    """A small product, one that oneDNN takes, and one that is made in parts: 72,000 rows of 64."""
    x = torch.randn(*rows, 64, requires_grad=True)
    weight = (torch.randn(96, 64) / 8).requires_grad_()
    b = torch.randn(96, requires_grad=True) if bias else None
    for one, other in zip(*(results(f, x, weight, b) for f in pair), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-3)


def test_keeps_one_map() -> None:
    """Of the hidden layer the GELU's input alone is kept, and no third tensor of its size."""
    x, weight, bias = torch.randn(64, 512, requires_grad=True), torch.randn(8, 512), torch.randn(8)
    kept = {}
    for function in (gelu_linear, gelu_linear_reference):
        sizes = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            function(x, weight.requires_grad_(), bias)
        kept[function] = sizes.count(x.numel())
    assert kept == {gelu_linear: 1, gelu_linear_reference: 2}


def test_autocast() -> None:
    x, weight, bias = (torch.randn(*s, requires_grad=True) for s in ((2, 40, 64), (96, 64), (96,)))
    with torch.autocast('cpu', torch.bfloat16):
        fast, plain = (results(f, x, weight, bias) for f in PAIRS[1])
    for one, other in zip(fast, plain, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0.05, atol=3.0 if one is not fast[0] else 0.2)


def test_second_derivative() -> None:
    x, weight, bias = (
        torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((3, 4), (5, 4), (5,))
    )
    assert torch.autograd.gradgradcheck(gelu_linear, (x, weight, bias))
