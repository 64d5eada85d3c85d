import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from spm_mm.ops import guide_output, guided_attention
from tests.ops.references import guided_attention_reference


def make_case(bias: bool, masked: bool) -> tuple:
    tokens = torch.randn(6, 5, 24, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(72, 24, dtype=torch.float64, requires_grad=True)
    b = torch.randn(72, dtype=torch.float64, requires_grad=True) if bias else None
    mask = torch.rand(6, 5) > 0.4 if masked else None
    if masked:
        mask[:, 0] = True
    return tokens, weight, b, 4, mask


def from_projections(tokens, weight, bias, num_heads, mask=None) -> torch.Tensor:
    query, key_value = F.linear(tokens, weight, bias).split((24, 48), dim=-1)
    return guide_output(query[:, 0], key_value, num_heads, mask)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('masked', [True, False])
@pytest.mark.parametrize('function', [guided_attention, from_projections])
def test_equals_the_reference(bias: bool, masked: bool, function) -> None:
    case = make_case(bias, masked)
    inputs = [t for t in case[:3] if t is not None]
    results = []
    for form in (function, guided_attention_reference):
        out = form(*case)
        results.append((out, *torch.autograd.grad((out * torch.arange(24.0)).sum(), inputs)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_cost() -> None:
    """11 C^2 multiply-accumulates a window, where projecting all five tokens takes 15 C^2."""
    c, n = 128, 10
    counts = []
    for function in (guided_attention, guided_attention_reference):
        with torch.device('meta'), FlopCounterMode(display=False) as counter:
            function(torch.empty(n, 5, c), torch.empty(3 * c, c), torch.empty(3 * c), 8)
        counts.append(counter.get_total_flops() / 2 / n)
    assert counts[0] == 11 * c**2
    assert counts[1] > 15 * c**2


def test_second_derivative() -> None:
    tokens, weight, bias, heads, mask = make_case(bias=True, masked=True)
    assert torch.autograd.gradgradcheck(
        lambda *inputs: guided_attention(*inputs, heads, mask[:2]), (tokens[:2], weight, bias)
    )
