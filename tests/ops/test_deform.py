import pytest
import torch
from torch.nn import functional as F

from spm_mm.ops import deform_conv, resample, sampling_positions

SHAPES = [(2, 8, 6), (3, 7, 5), (2, 2, 3), (1, 9, 2)]


def make_case(shape: tuple[int, int, int], spread: float) -> list[torch.Tensor]:
    """A feature map, and offsets with a standard deviation of ``spread`` cells."""
    b, h, w = shape
    sizes = ((b, h, w, 6), (b, h // 2, w // 2, 8))
    case = [torch.randn(size, dtype=torch.float64) for size in sizes]
    case[1] *= spread
    return [t.requires_grad_() for t in case]


def results(function, case: list[torch.Tensor]) -> list[torch.Tensor]:
    """Output and all gradients."""
    out = function(*case)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), case)]


@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('spread', [0.0, 0.4, 5.0])
def test_the_kernel_agrees(shape: tuple, spread: float) -> None:
    """Outputs and gradients, also where offsets start, and where many points lie outside."""
    case = [*make_case(shape, spread), *(torch.randn(s).double() for s in ((5, 6, 2, 2), (5,)))]
    case = [t.detach().requires_grad_() for t in case]

    def two_steps(x, offset, weight, bias) -> torch.Tensor:
        image = resample(x, offset).permute(0, 3, 1, 2)
        return F.conv2d(image, weight, bias, stride=2).permute(0, 2, 3, 1)

    for one, other in zip(results(deform_conv, case), results(two_steps, case), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_zero_offsets_leave_whole_patches() -> None:
    x, offset = make_case((2, 7, 8), 0.0)
    torch.testing.assert_close(resample(x, offset), x[:, :6])


def test_points_one_by_one() -> None:
    """The definition, spelt out: order of the offsets, interpolation, zero outside."""
    x, offset = (t.detach() for t in make_case((2, 5, 7), 1.5))
    expected = torch.zeros(2, 4, 6, 6, dtype=torch.float64)
    for b, row, column, point in torch.cartesian_prod(*map(torch.arange, (2, 2, 3, 4))).tolist():
        dy, dx = divmod(point, 2)
        py, px = offset[b, row, column, 2 * point : 2 * point + 2].tolist()
        py, px = py + 2 * row + dy, px + 2 * column + dx
        for y in range(5):
            for x_ in range(7):
                share = max(0, 1 - abs(y - py)) * max(0, 1 - abs(x_ - px))
                expected[b, 2 * row + dy, 2 * column + dx] += share * x[b, y, x_]
    torch.testing.assert_close(resample(x, offset), expected)


def test_positions_without_offset_are_the_grid() -> None:
    positions = sampling_positions(torch.zeros(1, 2, 3, 8))
    assert positions[0, 1, 2].tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_gradients_are_those_of_differences() -> None:
    assert torch.autograd.gradcheck(resample, make_case((2, 4, 5), 0.7))
    assert torch.autograd.gradgradcheck(resample, make_case((1, 4, 4), 0.7))


@pytest.mark.parametrize('value', [float('inf'), float('nan'), 1e30])
def test_wild_offsets_do_not_crash(value: float) -> None:
    x, offset = (t.detach() for t in make_case((1, 4, 4), 0.0))
    assert resample(x, offset + value).shape == (1, 4, 4, 6)


def test_low_precision_keeps_its_type_and_exact_positions() -> None:
    """Half-precision numbers cannot tell cell 2049 from 2048: positions are float32."""
    x = torch.zeros(1, 2, 4098, 1, dtype=torch.bfloat16)
    x[0, :, 4097] = 1
    out = resample(x, torch.zeros(1, 1, 2049, 8).bfloat16())
    assert out.dtype == torch.bfloat16
    assert out[0, 0, :, 0].nonzero().tolist() == [[4097]]
