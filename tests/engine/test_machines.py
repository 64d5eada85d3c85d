"""Two machines, as network namespaces with a disk each: lost links, no common disk."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.engine.toy import write_config

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = '10.77.61.{}'


def call(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=30)


def remove(namespaces: list[str]) -> None:
    if shutil.which('ip'):
        for name in namespaces:
            subprocess.run(['ip', 'netns', 'del', name], capture_output=True, check=False)


@pytest.fixture
def machines(tmp_path):
    """Start a tool on machine 0 or 1; cut the link between them."""
    names = [f'spm{os.getpid()}m{i}' for i in (0, 1)]
    try:
        for name in names:
            call('ip', 'netns', 'add', name)
        call('unshare', '--mount', '--uts', 'true')
    except (OSError, subprocess.CalledProcessError) as error:
        remove(names)
        pytest.skip(f'network namespaces are not allowed here: {error}')
    call(
        'ip',
        'link',
        'add',
        'spm0',
        'netns',
        names[0],
        'type',
        'veth',
        'peer',
        'name',
        'spm0',
        'netns',
        names[1],
    )
    for i, name in enumerate(names):
        call('ip', '-n', name, 'addr', 'add', f'{ADDRESS.format(i + 1)}/24', 'dev', 'spm0')
        for device in ('spm0', 'lo'):
            call('ip', '-n', name, 'link', 'set', device, 'up')
        (tmp_path / f'disk{i}').mkdir()
    (tmp_path / 'disk').mkdir()
    started = []

    def start(machine: int, *command: object) -> subprocess.Popen:
        log = open(tmp_path / f'log{len(started)}', 'w')  # noqa: SIM115
        inside = (
            f'hostname machine{machine} && mount --bind {tmp_path}/disk{machine} {tmp_path}/disk'
            f' && cd {tmp_path}/disk && exec "$@"'
        )
        process = subprocess.Popen(
            ['ip', 'netns', 'exec', names[machine], 'unshare', '--mount', '--uts',
             'sh', '-c', inside, 'sh', *map(str, command)],
            env={
                **os.environ,
                'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
                'PYTHONPATH': str(ROOT),
                'NNODES': '2',
                'NODE_RANK': str(machine),
                'MASTER_ADDR': ADDRESS.format(1),
                'PORT': '29511',
                'GLOO_SOCKET_IFNAME': 'spm0',
                'CUDA_VISIBLE_DEVICES': '',
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        process.log = Path(log.name)
        started.append(process)
        return process

    start.cut = lambda: call('ip', '-n', names[0], 'link', 'set', 'spm0', 'down')
    yield start
    for process in started:
        if process.poll() is None:
            family = psutil.Process(process.pid)
            for member in [family, *family.children(recursive=True)]:
                member.kill()
            process.wait()
    remove(names)


def wait_for_line(text: str, process: subprocess.Popen, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while text not in process.log.read_text():
        assert process.poll() is None, process.log.read_text()[-3000:]
        assert time.monotonic() < deadline, process.log.read_text()[-3000:]
        time.sleep(0.1)


def hooks(timeout: int) -> list:
    return [dict(type='spm_mm.SeveralMachinesHook', timeout=timeout)]


def errors(process: subprocess.Popen) -> list[str]:
    return [line for line in process.log.read_text().splitlines() if line.startswith('error: ')]


@pytest.mark.slow
def test_no_common_disk(machines, tmp_path) -> None:
    """Validation works; resuming needs the checkpoint on both machines."""
    config = write_config(tmp_path / 'toy.py', custom_hooks=hooks(40))
    train = (ROOT / 'tools/dist_train.sh', config, 1, '--work-dir', 'work')
    nodes = [machines(i, *train) for i in (0, 1)]
    assert [node.wait(timeout=200) for node in nodes] == [0, 0], nodes[0].log.read_text()[-3000:]
    log = nodes[0].log.read_text()
    assert 'the machines share no disk' in log
    assert log.count('count: 8 ') == 2
    assert (tmp_path / 'disk0/work/iter_4.pth').is_file()
    assert not (tmp_path / 'disk1/work/iter_4.pth').exists()

    nodes = [machines(i, *train, '--resume') for i in (0, 1)]
    assert [node.wait(timeout=200) for node in nodes] == [2, 2]
    for node in nodes:
        (line,) = errors(node)
        assert 'process 1 on machine1 does not have' in line
        assert 'work/iter_4.pth, from which process 0 on machine0 starts: copy it there' in line


@pytest.mark.slow
def test_cut_link(machines, tmp_path) -> None:
    """Noticed on both sides within a minute; a process that is busy for longer is not lost."""
    config = write_config(
        tmp_path / 'toy.py',
        custom_hooks=hooks(8),
        model=dict(type='Toy', pause=0.1),
        val_evaluator=dict(type='ToyMetric', pause=14),
        train_cfg=dict(by_epoch=False, max_iters=1000, val_interval=2),
    )
    train = (ROOT / 'tools/dist_train.sh', config, 1, '--work-dir', 'work')
    nodes = [machines(i, *train) for i in (0, 1)]
    wait_for_line('count: 8 ', nodes[0])
    wait_for_line('Iter(train) [   4/1000]', nodes[0])
    assert all(node.poll() is None for node in nodes)
    machines.cut()
    start = time.monotonic()
    assert [node.wait(timeout=60) for node in nodes] == [1, 1]
    assert time.monotonic() - start < 60
    assert 'process 1 on machine1 (of 2) is gone or cannot be reached' in ''.join(errors(nodes[0]))
    assert 'process 0 on machine0 (of 2) is gone or cannot be reached' in ''.join(errors(nodes[1]))
