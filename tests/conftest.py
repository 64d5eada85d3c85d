from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        '--oracles',
        type=Path,
        help='folder of reference fixtures for tests/parity, instead of those in the repository',
    )
    parser.addoption(
        '--pin-keys', action='store_true', help='write the names of state-dict keys that are pinned'
    )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def root() -> Path:
    """The checkout."""
    return ROOT
