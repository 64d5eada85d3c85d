import logging
import runpy
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from mmengine.dataset import BaseDataset
from mmengine.fileio import register_backend
from mmengine.fileio.backends import backends
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

ROOT = Path(__file__).resolve().parents[2]


class Ended(NamedTuple):
    """How a tool ended: its exit status, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def run_here(monkeypatch, capfd):
    """Run a tool, of the checkout if its path is relative, in this process: it spares the imports.

    An exception other than SystemExit is status 1, as Python ends then; its text is in ``err``.
    """

    # Tools set these; at the end of the test they are as before.
    for name, value in (('LOCAL_RANK', '0'), ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging, 'raiseExceptions', False)

    def run(tool: str, *arguments: object) -> Ended:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        capfd.readouterr()
        # mmengine takes two runs of one config in the same second for one.
        name = Path(arguments[0]).stem
        while DefaultScope.check_instance_created(time.strftime(f'{name}_%Y%m%d_%H%M%S')):
            time.sleep(0.02)
        status, raised = 0, ''
        before = BaseDataset.prepare_data, backends['local'], CheckpointLoader._schemes.get('')
        try:
            runpy.run_path(str(ROOT / tool), run_name='__main__')
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception as error:
            status, raised = 1, f'{type(error).__name__}: {error}'
        finally:  # a tool changes its process, which here is that of all tests
            BaseDataset.prepare_data = before[0]
            register_backend('local', before[1], force=True, prefixes='')
            CheckpointLoader.register_scheme('', before[2], force=True)
        out, err = capfd.readouterr()
        return Ended(status, out, err + raised)

    return run
