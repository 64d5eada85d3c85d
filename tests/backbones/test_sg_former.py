import pytest
import torch

from spm_mm.backbones import SGFormer
from tests import testing
from tests.testing import build_tiny

PAPER_REGIONS = [
    [[1, 196], [1, 56], [1, 56], [1, 28]],
    [[1, 49], [1, 14], [1, 14], [1, 7]],
    [[1, 2], [1, 1]],
]


@pytest.mark.parametrize(
    'options',
    [
        dict(scales=[[1], [1], [1]], regions=None),
        dict(scales=[[8], [4], [2]], regions=None),
        dict(scales=[[8, 1], [4, 2, 1, 1], [2, 1]], in_windows=True),
        dict(regions=PAPER_REGIONS),
        dict(guide='local'),
        dict(guide='global'),
        dict(guide='manual'),
        dict(window_size=5),
    ],
    ids=str,
)
def test_options(options: dict) -> None:
    model = build_tiny('SGFormer', **options)
    testing.check_shapes(model)
    testing.check_gradients(model)


def test_scales_of_the_papers_base_model() -> None:
    with torch.device('meta'):
        SGFormer('base', scales=[[8, 4, 2, 1], [4, 2, 1], [2, 1]], regions=PAPER_REGIONS)


def test_other_images_of_the_batch_have_no_influence() -> None:
    model = build_tiny('SGFormer').eval().double()
    images = torch.randn(3, 3, 70, 97).double()
    together = model(images)
    for i in range(3):
        for one, all_ in zip(model(images[i : i + 1]), together, strict=True):
            torch.testing.assert_close(one, all_[i : i + 1])


def test_position_table_is_resized_on_loading() -> None:
    small, large = build_tiny('SGFormer', img_size=64), build_tiny('SGFormer', img_size=96)
    large.load_state_dict(small.state_dict())
    table = large.stages[0].position.table
    assert table.shape[1:3] == (24, 24)
    torch.testing.assert_close(table[0, 0, 0], small.stages[0].position.table[0, 0, 0])


def test_a_block_takes_its_significance_as_a_value() -> None:
    """Nothing of a forward pass stays in the model."""
    model = build_tiny('SGFormer').eval()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    model(torch.randn(1, 3, 64, 64))
    after = {name: dict(vars(module)) for name, module in model.named_modules()}
    assert all(before[name].keys() == after[name].keys() for name in before)
    assert all(
        not isinstance(value, torch.Tensor)
        for module in after.values()
        for value in module.values()
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(scales=[[8, 1]]), 'scales must have one entry for each of stages 1 to 3'),
        (dict(regions=[[[1, 2]]] * 4), 'regions must have one entry for each of stages 1 to 3'),
        (dict(regions=[[[1, 2, 3]]] * 3), r'regions must be pairs \(share, rate\)'),
        (dict(guide='hybird'), "guide .*did you mean 'hybrid'"),
        (dict(img_size=16), 'img_size must be a whole number of 32 or more, got 16'),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message), torch.device('meta'):
        SGFormer(**arguments)
