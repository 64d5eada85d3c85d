import sys

import pytest
import torch

from spm_mm.ops import relative_attention, relative_attention_reference

MODULE = sys.modules['spm_mm.ops.relative_attention']


def make_case(height: int, width: int) -> list[torch.Tensor]:
    shapes = [(2, 3, height * width, 4)] * 3 + [(3, 2 * height - 1, 2 * width - 1)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def results(function, case: list[torch.Tensor]) -> list[torch.Tensor]:
    out = function(*case)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), case)]


@pytest.mark.parametrize('numbers', [MODULE.SLICE, 2 * 20**2, 1], ids=['whole', 'two heads', 'one'])
@pytest.mark.parametrize('size', [(4, 5), (1, 7), (1, 1)], ids=str)
def test_equals_the_reference(monkeypatch, size: tuple[int, int], numbers: int) -> None:
    """Whole, and in slices of heads that are recomputed in the backward pass."""
    monkeypatch.setattr(MODULE, 'SLICE', numbers)
    case = make_case(*size)
    expected = results(relative_attention_reference, case)
    for one, other in zip(results(relative_attention, case), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(relative_attention(*case), expected[0])


def test_slices_keep_no_matrix_for_the_backward_pass(monkeypatch) -> None:
    """Of 400 tokens autograd keeps all the N x N numbers, or none where slices are recomputed."""
    case, kept = make_case(20, 20), []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    for numbers in (MODULE.SLICE, 400**2):
        kept.clear()
        monkeypatch.setattr(MODULE, 'SLICE', numbers)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            relative_attention(*case)
        assert (max(kept) >= 400**2) == (numbers > 400**2)
