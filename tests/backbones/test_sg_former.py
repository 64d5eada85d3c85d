import pytest
import torch

from spm_mm import testing
from spm_mm.backbones import SGFormer
from spm_mm.testing import build_tiny

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


# The official models' own counts with 1000 classes.
@pytest.mark.parametrize(
    ('arch', 'parameters'), [('small', 22545981), ('medium', 38689316), ('base', 77950293)]
)
def test_parameters(arch: str, parameters: int) -> None:
    with torch.device('meta'):
        model = SGFormer(arch)
    head = 1000 * (model.arch['embed_dims'][-1] + 1)
    assert sum(p.numel() for p in model.parameters()) + head == parameters


@pytest.mark.parametrize('size', [(33, 47), (200, 333)], ids=str)
def test_large_and_odd_images_train(size: tuple[int, int]) -> None:
    """A quarter of 800 x 1333, whose maps no window, patch or rate divides."""
    model = build_tiny('SGFormer').train()
    image = torch.randn(1, 3, *size, requires_grad=True)
    outs = model(image)
    assert [out.shape[2:] for out in outs] == [
        (-(-size[0] // stride), -(-size[1] // stride)) for stride in (4, 8, 16, 32)
    ]
    testing.total(outs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert image.grad.isfinite().all()


def test_other_images_of_the_batch_have_no_influence() -> None:
    model = build_tiny('SGFormer').eval().double()
    images = torch.randn(3, 3, 70, 97).double()
    together = model(images)
    for i in range(3):
        for one, all_ in zip(model(images[i : i + 1]), together, strict=True):
            torch.testing.assert_close(one, all_[i : i + 1])


def test_one_graph_at_a_fixed_size() -> None:
    torch._dynamo.reset()
    model = build_tiny('SGFormer').eval()
    compiled = torch.compile(model, backend='eager', fullgraph=True, dynamic=False)
    x = torch.randn(2, 3, 70, 97)
    with torch.no_grad():
        for one, other in zip(compiled(x), model(x), strict=True):
            torch.testing.assert_close(one, other)


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
        (dict(arch='tiny'), "SGFormer has no arch 'tiny'"),
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
