import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import spm_mm  # noqa: F401, which brings mmcv's operators where it is not installed

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


@pytest.fixture(scope='session')
def run_tool():
    """Run a tool of the checkout, return the finished process; fail if its status is not ``status``."""

    def run(*command: object, status: int = 0, **environment: str) -> subprocess.CompletedProcess:
        command = [str(part) for part in command]
        if command[0].endswith('.py'):
            command.insert(0, sys.executable)
        # The scripts call plain `python`: make that the one that runs the tests.
        path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, 'PATH': path, 'VIRTUAL_ENV': sys.prefix, **environment},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == status, f'{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
        return done

    return run


@pytest.fixture(scope='session')
def load_tool():
    """Import a tool, to call its functions without the cost of a process."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
        # Data classes look their module up.
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def two_processes() -> dict[str, str]:
    """Environment for a distributed run on the CPU: a free port, and no GPU."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return dict(PORT=str(probe.getsockname()[1]), CUDA_VISIBLE_DEVICES='')
