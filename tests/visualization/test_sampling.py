import cv2
import numpy as np
import pytest
import torch

from spm_mm.ops import resample
from spm_mm.visualization import sampled_pixels
from tests import testing


def model_with_offsets(*values: float) -> torch.nn.Module:
    """A LIT whose mergings read, everywhere, so many pixels of their map lower and to the right."""
    model = testing.build_tiny('LIT').eval()
    for merging, value in zip(model.mergings, values, strict=True):
        torch.nn.init.constant_(merging.offset.bias, value)
    return model


@pytest.mark.parametrize('stage', [2, 3, 4])
def test_without_offsets_it_is_the_cell(stage: int) -> None:
    found = sampled_pixels(
        model_with_offsets(0, 0, 0), torch.randn(1, 3, 64, 96), stage, (0.5, 0.0)
    )
    side = 2 ** (stage + 1)
    column = 96 // side // 2
    assert found.cell == (column * side, 0, (column + 1) * side, side)
    centres = np.arange(2, side, 4)
    expected = {(x + found.cell[0], y) for x in centres for y in centres}
    for places in (found.points, found.regular):
        assert len(places) == 4 ** (stage - 1)
        assert set(map(tuple, places)) == expected


def test_shifts_add_up_in_pixels() -> None:
    """A pixel of stage 1 is 4 of the image, one of stage 2 is 8, one of stage 3 is 16."""
    found = sampled_pixels(model_with_offsets(0.5, 1, -3), torch.randn(1, 3, 96, 96), 4, (0.5, 0.5))
    np.testing.assert_allclose(found.points - found.regular, 0.5 * 4 + 8 - 3 * 16, atol=1e-4)


def test_one_merging_reads_what_it_reads() -> None:
    """The pixels of stage 1 that have a gradient are the neighbours of the places."""
    model = testing.build_tiny('LIT').eval()
    torch.nn.init.normal_(model.mergings[0].offset.weight, std=0.3)
    image = torch.randn(1, 3, 64, 64)
    found = sampled_pixels(model, image, 2, (0.4, 0.7))
    x = model.stages[0](model.stem(image))[0].detach().requires_grad_()
    offset = model.mergings[0].offset(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach()
    out = resample(x, offset)[0, 10:12, 6:8].sum()
    (gradient,) = torch.autograd.grad(out, x)
    touched = set(map(tuple, gradient[0].abs().sum(-1).nonzero().tolist()))
    places = found.points[:, ::-1] / 4 - 0.5
    expected = {
        (int(y), int(x))
        for py, px in places
        for y in (np.floor(py), np.ceil(py))
        for x in (np.floor(px), np.ceil(px))
        if 0 <= y < 16 and 0 <= x < 16
    }
    assert touched == expected


def test_other_mergings_are_named() -> None:
    image = torch.randn(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r'mergings\.0 must be a DeformableMerging, got ConvMerg'):
        sampled_pixels(testing.build_tiny('PVT').eval(), image, 4, (0.5, 0.5))
    with pytest.raises(ValueError, match='stage must be from 2 to 4, got 1'):
        sampled_pixels(testing.build_tiny('LIT').eval(), image, 1, (0.5, 0.5))


@pytest.mark.slow
@pytest.mark.parametrize('tool', ['sampling_positions', 'attention_heads'])
def test_tools_write_a_figure(run_tool, tmp_path, tool: str) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'picture.png'), picture)
    out = tmp_path / 'figures' / 'out.png'
    run_tool(
        f'tools/visualization/{tool}.py', 'configs/mmpretrain/lit_tiny_in1k.py',
        tmp_path / 'picture.png', out, '--size', '64', '96',
    )  # fmt: skip
    assert cv2.imread(str(out)).std() > 10
