import sys

import pytest
import torch

from spm_mm.ops import neighborhood_attention, neighborhood_attention_reference

MODULE = sys.modules['spm_mm.ops.neighborhood_attention']


def make_case(height: int, width: int, kernel: int) -> list[torch.Tensor]:
    shapes = [(2, height, width, 3, 4)] * 3 + [(3, 2 * kernel - 1, 2 * kernel - 1)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def results(function, case: list[torch.Tensor]) -> list[torch.Tensor]:
    out = function(*case)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), case)]


@pytest.mark.parametrize('pairs', [MODULE.STRIP, 10000, 1], ids=['whole', 'strips', 'rows'])
@pytest.mark.parametrize('kernel', [3, 7])
@pytest.mark.parametrize('size', [(7, 7), (8, 15), (29, 7), (20, 31)], ids=str)
def test_equals_the_reference(monkeypatch, size: tuple[int, int], kernel: int, pairs: int) -> None:
    """Outputs and all gradients, whole and in strips: one tile, whole tiles, overhanging ones."""
    monkeypatch.setattr(MODULE, 'STRIP', pairs)
    case = make_case(*size, kernel)
    expected = results(neighborhood_attention_reference, case)
    for one, other in zip(results(neighborhood_attention, case), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_the_reference_by_hand() -> None:
    """One query in a corner and one inside, with the keys and shifts written out."""
    q, k, v, table = make_case(9, 10, 7)
    out = neighborhood_attention_reference(q, k, v, table)
    for (y, x), (top, left) in (((8, 1), (2, 0)), ((4, 5), (1, 2))):
        keys, values = (t[0, top : top + 7, left : left + 7, 1].flatten(0, 1) for t in (k, v))
        dy, dx = top - y + 6, left - x + 6
        bias = table[1, dy : dy + 7, dx : dx + 7].flatten()
        weights = (keys @ q[0, y, x, 1] / 2 + bias).softmax(dim=0)
        torch.testing.assert_close(out[0, y, x, 1], weights @ values)


def test_strips_keep_no_weights_for_the_backward_pass(monkeypatch) -> None:
    case, kept = make_case(20, 31, 7), []
    monkeypatch.setattr(MODULE, 'STRIP', 10000)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        neighborhood_attention(*case)
    assert max(kept, default=0) <= case[0].numel()


def test_second_derivative() -> None:
    case = [t.detach()[:1, :4, :5, :2, :2].requires_grad_() for t in make_case(4, 5, 3)[:3]]
    table = torch.randn(2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(neighborhood_attention, (*case, table))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_low_precision(dtype: torch.dtype) -> None:
    """As near to float64 as the type allows, with the table in float32."""
    case = [t.detach().to(dtype) for t in make_case(16, 17, 7)]
    case[3] = case[3].float()
    case = [t.requires_grad_() for t in case]
    expected = results(neighborhood_attention_reference, [t.double() for t in case])
    for one, other in zip(results(neighborhood_attention, case), expected, strict=True):
        assert (one.double() - other).norm() <= 8 * torch.finfo(dtype).eps * other.norm()
    assert [t.dtype for t in results(neighborhood_attention, case)] == [dtype] * 4 + [torch.float32]


@pytest.mark.parametrize(
    ('side', 'table', 'message'),
    [
        (6, (2, 13, 13), 'a feature map must have 7 rows and columns, got \\(6, 9\\)'),
        (9, (2, 12, 12), 'table must be .* with an odd K, got \\(2, 12, 12\\)'),
        (9, (2, 13, 5), 'table must be'),
    ],
)
def test_inputs_that_do_not_fit(side: int, table: tuple, message: str) -> None:
    q = torch.randn(1, side, 9, 2, 4)
    with pytest.raises(ValueError, match=message):
        neighborhood_attention(q, q, q, torch.zeros(table))
