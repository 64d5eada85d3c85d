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
PARTS = {
    'models': (
        'attention backbones benchmark converters deploy merging necks ops pytorch_tools reference'
        ' visualization test_compat.py test_extending.py test_migration.py test_models.py'
        ' test_registry.py test_weights.py'
    ),
    'frameworks': 'engine heads mmcv_ops test_frameworks.py test_inferencers.py',
    'configs': 'configs',
    'parity': 'parity',
    'tools': 'compare tools',
    'launch': (
        'compare/test_launch.py engine/test_cpu_distributed.py engine/test_disks.py'
        ' engine/test_frameworks_tools.py engine/test_machines.py pytorch_tools/test_ddp.py'
        ' pytorch_tools/test_fsdp.py tools/test_launchers.py tools/test_train.py'
    ),
    'docs': 'tutorials test_docs.py test_packaging.py',
    'gpu': 'gpu',
}
"""Marker to the folders and files that have it, the longer path before the shorter."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        '--oracles',
        type=Path,
        help='folder of reference fixtures for tests/parity, instead of those in the repository',
    )
    parser.addoption(
        '--pin-keys', action='store_true', help='write the names of state-dict keys that are pinned'
    )
    parser.addoption(
        '--store-outputs', action='store_true', help='write the outputs of tutorials into them'
    )
    parser.addoption(
        '--sample', type=int, metavar='N', help='run at most N cases of each parametrised test'
    )


def part_of(file: Path) -> str | None:
    """The marker of a test file, None if neither it nor a folder of it is in :data:`PARTS`."""
    place = file.relative_to(ROOT / 'tests')
    paths = [str(path) for path in (place, *place.parents)]
    parts = (part for path in paths for part, listed in PARTS.items() if path in listed.split())
    return next(parts, None)


def pytest_collect_file(file_path: Path) -> None:
    """Refuse a test file that has no part."""
    if file_path.match('test_*.py') and part_of(file_path) is None:
        raise pytest.Collector.CollectError(f'add {file_path} or its folder to PARTS in {__file__}')


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test the marker of its part."""
    item.add_marker(part_of(item.path))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--sample``, keep cases of each test that are spread evenly over all."""
    most = config.getoption('--sample')
    if most is None:
        return
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.partition('[')[0], []).append(item)
    kept = {
        cases[i * len(cases) // most] if len(cases) > most else case
        for cases in tests.values()
        for i, case in enumerate(cases[:most])
    }
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


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
