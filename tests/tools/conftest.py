import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


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
def scenes(tmp_path_factory: pytest.TempPathFactory, run_tool) -> Path:
    """A few small composed scenes."""
    out = tmp_path_factory.mktemp('scenes')
    run_tool(
        'tools/dataset_converters/compose_scenes.py',
        out,
        '--train',
        8,
        '--val',
        4,
        '--size',
        96,
        64,
    )
    return out


@pytest.fixture
def port() -> str:
    """A free port for the processes of a distributed run."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


# Options that make a config's model and schedule small enough for a test.
SMALL = (
    'model.backbone.arch._delete_=True',
    'model.backbone.arch.embed_dims=(8,16,40,64)',
    'model.backbone.arch.depths=(1,1,1,1)',
    'model.backbone.arch.num_heads=(1,2,5,8)',
    'model.backbone.arch.mlp_ratios=(2,2,2,2)',
    'model.backbone.arch.sr_ratios=(8,4,2,1)',
    'model.neck.in_channels=[8,16,40,64]',
    'model.neck.out_channels=16',
    'model.decode_head.in_channels=[16,16,16,16]',
    'model.decode_head.channels=8',
    'model.data_preprocessor.size=(64,64)',
    'train_dataloader.batch_size=2',
    'default_hooks.logger.interval=1',
)


@pytest.fixture
def small() -> tuple[str, ...]:
    return ('--cfg-options', *SMALL)
