import pytest
import torch
from torch.nn import functional as F

from spm_mm.ops import deform_conv, deform_conv_reference, sampling_positions
from spm_mm.ops.deform import BACKENDS, can_run

SHAPES = [(2, 8, 6), (3, 7, 5), (2, 2, 3), (1, 9, 2)]


def make_case(shape: tuple[int, int, int], spread: float) -> list[torch.Tensor]:
    """A map, offsets with a standard deviation of ``spread`` pixels, weight and bias."""
    b, h, w = shape
    sizes = ((b, h, w, 6), (b, h // 2, w // 2, 8), (5, 6, 2, 2), (5,))
    case = [torch.randn(size, dtype=torch.float64) for size in sizes]
    case[1] *= spread
    return [t.requires_grad_() for t in case]


def results(function, case: list[torch.Tensor]) -> list[torch.Tensor]:
    """Output and all gradients."""
    out = function(*case)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), case)]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('spread', [0.0, 0.4, 5.0])
def test_backends_agree_with_the_reference(backend: str, shape: tuple, spread: float) -> None:
    """Also where offsets are zero, as they start, and where many points lie outside the map."""
    case = make_case(shape, spread)
    expected = results(deform_conv_reference, case)
    found = results(lambda *arguments: deform_conv(*arguments, backend), case)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_zero_offsets_are_a_plain_convolution() -> None:
    x, offset, weight, bias = make_case((2, 7, 8), 0.0)
    expected = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride=2).permute(0, 2, 3, 1)
    torch.testing.assert_close(deform_conv(x, offset, weight, bias), expected)


def test_points_one_by_one() -> None:
    """The definition, spelt out: order of the offsets, interpolation, zero outside."""
    x, offset, weight, bias = (t.detach() for t in make_case((2, 5, 7), 1.5))
    expected = bias.expand(2, 2, 3, 5).clone()
    for b, row, column, point in torch.cartesian_prod(*map(torch.arange, (2, 2, 3, 4))).tolist():
        dy, dx = divmod(point, 2)
        py, px = offset[b, row, column, 2 * point : 2 * point + 2].tolist()
        py, px = py + 2 * row + dy, px + 2 * column + dx
        value = torch.zeros(6, dtype=torch.float64)
        for y in range(5):
            for x_ in range(7):
                value += max(0, 1 - abs(y - py)) * max(0, 1 - abs(x_ - px)) * x[b, y, x_]
        expected[b, row, column] += weight[:, :, dy, dx] @ value
    torch.testing.assert_close(deform_conv(x, offset, weight, bias), expected)


def test_positions_without_offset_are_the_grid() -> None:
    positions = sampling_positions(torch.zeros(1, 2, 3, 8))
    assert positions[0, 1, 2].tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_gradients_are_those_of_differences() -> None:
    assert torch.autograd.gradcheck(deform_conv, make_case((2, 4, 5), 0.7))


@pytest.mark.parametrize('value', [float('inf'), float('nan'), 1e30])
def test_wild_offsets_do_not_crash(value: float) -> None:
    x, offset, weight, bias = (t.detach() for t in make_case((1, 4, 4), 0.0))
    out = deform_conv(x, offset + value, weight, bias)
    assert out.shape == (1, 2, 2, 5)


def test_low_precision_keeps_its_type_and_exact_positions() -> None:
    """Half-precision numbers cannot tell pixel 2049 from 2048: positions are float32."""
    x = torch.zeros(1, 2, 4098, 1, dtype=torch.bfloat16)
    x[0, :, 4097] = 1
    offset, weight = torch.zeros(1, 1, 2049, 8).bfloat16(), torch.ones(1, 1, 2, 2).bfloat16()
    out = deform_conv(x, offset, weight)
    assert out.dtype == torch.bfloat16
    assert out[0, 0, :, 0].nonzero().tolist() == [[2048]]


def test_a_back_end_that_cannot_run_is_named() -> None:
    assert can_run('torch')
    with pytest.raises(ValueError, match=r"'cuda' of deform_conv cannot run here.*'torch'"):
        deform_conv(*make_case((1, 4, 4), 0.0), backend='cuda')
