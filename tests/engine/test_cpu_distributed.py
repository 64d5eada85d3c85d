"""Two gloo processes: one model in both, and what the launcher says when one of them fails."""

import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests.engine.conftest import ROOT

STEP = """
import torch
from mmengine.dist import all_gather
from torch import nn

from spm_mm.engine import CPUDistributedDataParallel, run_tool


def equal(tensors):
    return [torch.equal(*all_gather(tensor.detach())) for tensor in tensors]


def main():
    torch.distributed.init_process_group('gloo')
    rank = torch.distributed.get_rank()
    torch.manual_seed(rank)
    net = nn.Sequential(nn.Linear(4, 4), nn.SyncBatchNorm(4), nn.Linear(4, 1))
    model = CPUDistributedDataParallel(net, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model.train()(torch.randn(8, 4) + rank).square().mean().backward()
        optimizer.step()
    means = [buffer for name, buffer in model.named_buffers() if name.endswith('running_mean')]
    result = dict(parameters=all(equal(model.parameters())), training=equal(means))
    model.eval()
    result['eval'] = equal(means)
    print(f'{rank}: {result}')


run_tool(main)
"""


@pytest.fixture
def torchrun(run_tool, two_processes, tmp_path):
    def run(code: str, status: int = 0):
        script = tmp_path / 'script.py'
        script.write_text(code)
        options = ('--nproc_per_node=2', f'--master_port={two_processes["PORT"]}')
        return run_tool('tools/torchrun.py', *options, script, status=status, **two_processes)

    return run


def test_parameters_stay_equal_and_buffers_become_so(torchrun) -> None:
    out = torchrun(STEP).stdout
    for rank in (0, 1):
        assert f"{rank}: {{'parameters': True, 'training': [False], 'eval': [True]}}" in out


@pytest.mark.parametrize(
    ('end', 'status', 'message'),
    [
        ('sys.exit(7)', 7, 'error: process 1 ended with status 7'),
        ('os.kill(os.getpid(), 9)', 137, 'error: process 1 ended with status 137'),
        ("sys.exit('no such luck')", 1, 'error: process 1 ended with status 1'),
    ],
)
def test_status_of_the_process_that_failed(torchrun, end: str, status: int, message: str) -> None:
    code = f"import os, sys, time\nif os.environ['RANK'] == '1':\n    {end}\ntime.sleep(60)\n"
    error = torchrun(code, status=status).stderr
    assert message in error
    assert 'ChildFailedError' not in error


def test_port_in_use(run_tool, two_processes, tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(('', int(two_processes['PORT'])))
        taken.listen()
        options = ('--nproc_per_node=2', f'--master_port={two_processes["PORT"]}')
        error = run_tool('tools/torchrun.py', *options, tmp_path, status=2, **two_processes).stderr
    assert 'error: The server socket has failed to listen' in error
    assert 'Traceback' not in error


ENDLESS = """
import os, sys, time
from pathlib import Path
from spm_mm.engine import run_tool

def main():
    Path(sys.argv[1], os.environ['RANK']).write_text(str(os.getpid()))
    time.sleep(100)

run_tool(main)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='the kernel tells of a lost parent on Linux')
def test_processes_end_with_their_launcher(two_processes, tmp_path) -> None:
    """Also where it is killed by SIGKILL and can end nobody."""
    script = tmp_path / 'script.py'
    script.write_text(ENDLESS)
    options = ('--nproc_per_node=2', f'--master_port={two_processes["PORT"]}')
    launcher = subprocess.Popen(
        [sys.executable, 'tools/torchrun.py', *options, str(script), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    pids = [tmp_path / '0', tmp_path / '1']
    deadline = time.monotonic() + 120
    while not all(pid.exists() and pid.read_text() for pid in pids):
        assert time.monotonic() < deadline
        assert launcher.poll() is None
        time.sleep(0.1)
    ranks = [psutil.Process(int(pid.read_text())) for pid in pids]
    launcher.kill()
    launcher.wait()
    _, alive = psutil.wait_procs(ranks, timeout=10)
    for process in alive:
        process.kill()
    assert not alive
