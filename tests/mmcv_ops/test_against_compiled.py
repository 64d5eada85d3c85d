"""Our operators give what mmcv's compiled ones gave in the fixtures, and give on a GPU."""

import mmcv._ext
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from spm_mm.mmcv_ops import extension
from tests.mmcv_ops.cases import ON_CPU, ON_GPU, operators
from tests.mmcv_ops.make_fixtures import FIXTURES

COMPILED = not mmcv._ext.__file__.endswith('.py')
CUDA = COMPILED and torch.cuda.is_available()


@pytest.fixture(scope='module')
def fixtures() -> dict[str, Tensor]:
    return load_file(FIXTURES)


def compare(ours: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    assert ours.keys() == expected.keys()
    # The compiled ones compute half precision in itself, ours in float32.
    half = 'half' in name
    for part, value in expected.items():
        # What they give for the largest of no samples; we give 0.
        value = value.masked_fill(value == -10000, 0)
        torch.testing.assert_close(
            ours[part].float(),
            value.float(),
            rtol=2e-2 if half else 1e-4,
            atol=2e-2 if half else 2e-5,
            equal_nan=True,
            msg=lambda text, part=part: f'{part}: {text}',
        )
        assert ours[part].dtype == value.dtype


@pytest.mark.parametrize('name', ON_CPU)
def test_cpu(name: str, fixtures: dict[str, Tensor]) -> None:
    with operators(extension):
        ours = ON_CPU[name]('cpu')
    expected = {k.split('/')[1]: v for k, v in fixtures.items() if k.split('/')[0] == name}
    compare(ours, expected, name)


@pytest.mark.skipif(not CUDA, reason='needs mmcv compiled for CUDA, and a GPU')
@pytest.mark.parametrize('name', ON_CPU | ON_GPU)
def test_cuda(name: str) -> None:
    case = (ON_CPU | ON_GPU)[name]
    expected = case('cuda')
    with operators(extension):
        ours = case('cuda')
    compare(ours, expected, name)
