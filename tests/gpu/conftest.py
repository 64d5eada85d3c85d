"""What can fail on a GPU alone. ``--gpu-device cpu`` tries out the tests themselves."""

from collections.abc import Iterator

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--gpu-device', default='cuda', help='device of the tests marked gpu')


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The GPU, without TensorFloat-32; the test is skipped where there is none."""
    name = request.config.getoption('--gpu-device', 'cuda')
    if name == 'cuda' and not torch.cuda.is_available():
        pytest.skip('PyTorch sees no GPU')
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield name


@pytest.fixture
def cuda(device: str) -> str:
    """Likewise, for what a CPU has no counterpart of."""
    if device != 'cuda':
        pytest.skip('a CPU has no counterpart')
    return device
