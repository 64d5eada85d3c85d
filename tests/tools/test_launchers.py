"""Slurm, several machines and killed runs, on the CPU and with stand-ins for what is not here."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from spm_mm.compat import allow_training_checkpoints, load_checkpoint
from tests.tools.conftest import SMALL

ROOT = Path(__file__).resolve().parents[2]
SCENES = 'configs/mmseg/fpn_pvt_tiny_spm_scenes.py'
OPTIONS = ('--cfg-options', *SMALL, 'model.decode_head.num_classes=12')


def schedule(iterations: int, interval: int) -> tuple[str, ...]:
    return (
        f'train_cfg.max_iters={iterations}',
        f'train_cfg.val_interval={iterations}',
        f'default_hooks.checkpoint.interval={interval}',
    )


def wait_for(
    condition, process: subprocess.Popen, seconds: float = 300, pause: float = 0.05
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, 'the run ended early'
        assert time.monotonic() < deadline, f'waited {seconds} s in vain'
        time.sleep(pause)


def kill(process: subprocess.Popen) -> None:
    """SIGKILL for a process and all that it has started, as when a machine goes down."""
    family = psutil.Process(process.pid)
    for member in [family, *family.children(recursive=True)]:
        member.kill()
    process.wait()


def reached(work_dir: Path) -> int:
    return max(int(path.stem[5:]) for path in work_dir.glob('iter_*.pth'))


@pytest.fixture
def start(tmp_path, two_processes, scenes):
    """Start a tool; what is left of it is killed at the end."""
    started = []

    def run(*command: object, **environment: str) -> subprocess.Popen:
        path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
        log = open(tmp_path / f'log{len(started)}', 'w')  # noqa: SIM115
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={
                **os.environ,
                'PATH': path,
                'SCENES_ROOT': str(scenes),
                **two_processes,
                **environment,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        process.log = Path(log.name)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            kill(process)


# Slurm

SRUN = """#!/usr/bin/env bash
# Writes down how it was called, and runs the command as two tasks.
while [[ $1 == --* ]]; do
    echo "$1" >>"$SRUN_CALL"
    shift
done
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 SLURM_NODELIST='node[1-2]' "$@" &
    tasks+=($!)
done
for task in "${tasks[@]}"; do
    wait "$task" || status=$?
done
exit "${status:-0}"
"""
SCONTROL = """#!/usr/bin/env bash
[ "$*" = 'show hostnames node[1-2]' ] && echo 127.0.0.1 && echo other
"""


@pytest.fixture
def slurm(tmp_path, two_processes, scenes) -> dict[str, str]:
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name, script in (('srun', SRUN), ('scontrol', SCONTROL)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ['PATH']])
    return {
        'PATH': path,
        'SRUN_CALL': str(tmp_path / 'call'),
        'MASTER_PORT': two_processes['PORT'],
        'CUDA_VISIBLE_DEVICES': '',
        'SCENES_ROOT': str(scenes),
        'GPUS': '2',
        'CPUS_PER_TASK': '3',
        'SRUN_ARGS': '--time=10 --qos=low',
    }


@pytest.mark.slow
def test_slurm(run_tool, slurm, tmp_path) -> None:
    work_dir = tmp_path / 'work'
    call = ('tools/slurm_train.sh', 'part', 'job', SCENES, work_dir, *OPTIONS, *schedule(2, 2))
    run_tool(*call, **slurm)
    assert (work_dir / 'iter_2.pth').is_file()
    assert Path(slurm['SRUN_CALL']).read_text().split() == [
        '--partition=part', '--job-name=job', '--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2',
        '--cpus-per-task=3', '--kill-on-bad-exit=1', '--time=10', '--qos=low',
    ]  # fmt: skip
    test = ('tools/slurm_test.sh', 'part', 'job', SCENES, work_dir / 'iter_2.pth')
    done = run_tool(*test, '--work-dir', tmp_path, *OPTIONS, **slurm)
    assert '[2/2]' in done.stdout + done.stderr


@pytest.mark.slow
def test_slurm_mistakes(run_tool, slurm, tmp_path, scenes) -> None:
    slurm['SCENES_ROOT'] = str(tmp_path)
    call = ('tools/slurm_train.sh', 'part', 'job', SCENES, tmp_path / 'work')
    error = run_tool(*call, status=2, **slurm).stderr
    assert error.count('error: ') == 1
    assert 'Traceback' not in error
    call = ('tools/train.py', SCENES, '--launcher', 'slurm')
    error = run_tool(*call, status=2, CUDA_VISIBLE_DEVICES='', SCENES_ROOT=str(scenes)).stderr
    assert "'SLURM_NODELIST' is not set: use tools/slurm_train.sh" in error


# Several machines


@pytest.mark.slow
def test_two_machines_and_one_dies(start, tmp_path) -> None:
    """Here two launches on one machine."""
    work_dir = tmp_path / 'work'

    def launch(rank: int, *arguments: str) -> subprocess.Popen:
        call = ('tools/dist_train.sh', SCENES, 1, '--work-dir', work_dir, *arguments)
        return start(*call, NNODES='2', NODE_RANK=str(rank))

    nodes = [launch(rank, *OPTIONS, *schedule(1000, 2)) for rank in (0, 1)]
    wait_for((work_dir / 'iter_2.pth').exists, nodes[0])
    kill(nodes[1])
    assert nodes[0].wait(timeout=60) == 1
    log = nodes[0].log.read_text()
    assert 'error: process 1 on ' in log
    assert '(of 2) is gone or cannot be reached, so this one stops' in log

    last = reached(work_dir) + 2
    resume = ('--resume', *OPTIONS, *schedule(last, 2))
    nodes = [launch(rank, *resume) for rank in (0, 1)]
    assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    assert (work_dir / f'iter_{last}.pth').is_file()
    assert f'resumed epoch: 0, iter: {last - 2}' in nodes[0].log.read_text()


# Killed and resumed


def content(path: Path) -> dict:
    allow_training_checkpoints()
    return load_checkpoint(path)


def last_figures(work_dir: Path) -> dict:
    """What the newest validation in a work dir logged."""
    newest = max(work_dir.glob('*/vis_data/scalars.json'))
    figures = json.loads(newest.read_text().splitlines()[-1])
    assert 'mIoU' in figures
    return {name: value for name, value in figures.items() if 'time' not in name}


def assert_same_end(whole: Path, cut: Path, iterations: int) -> None:
    """To the last bit: weights, optimizer, learning rate, iteration and validation."""
    one, other = content(whole / f'iter_{iterations}.pth'), content(cut / f'iter_{iterations}.pth')
    assert one['meta']['iter'] == other['meta']['iter'] == iterations
    assert one['param_schedulers'] == other['param_schedulers']
    for name, value in one['state_dict'].items():
        assert torch.equal(value, other['state_dict'][name]), name
    for key, state in one['optimizer']['state'].items():
        for name, value in state.items():
            assert torch.equal(value, other['optimizer']['state'][key][name]), (key, name)
    assert last_figures(whole) == last_figures(cut)


def trainer(start, config: str, *options: str):
    def train(work_dir: Path, *arguments: str) -> subprocess.Popen:
        return start(
            sys.executable, 'tools/train.py', config, '--work-dir', work_dir, *arguments,
            '--cfg-options', *options, CUDA_VISIBLE_DEVICES='',
        )  # fmt: skip

    return train


@pytest.mark.slow
def test_killed_run_ends_as_an_undisturbed_one(start, tmp_path) -> None:
    train = trainer(
        start, SCENES, *OPTIONS[1:], *schedule(12, 2), 'model.backbone.drop_path_rate=0.3'
    )
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    assert train(whole).wait(timeout=300) == 0
    run = train(cut)
    wait_for((cut / 'iter_4.pth').exists, run)
    kill(run)
    half = cut / f'iter_{reached(cut)}.pth'
    (cut / 'last_checkpoint').write_text(str(half))
    half.write_bytes(half.read_bytes()[:-1000])
    newest = reached(cut) - 2
    run = train(cut, '--resume')
    assert run.wait(timeout=300) == 0
    log = run.log.read_text()
    assert f'checkpoint {half} cannot be read by the safe loader' in log
    assert f'resumed epoch: 0, iter: {newest}' in log
    assert_same_end(whole, cut, 12)
    # Killed after its last checkpoint and before the figures of the validation were there.
    for figures in cut.glob('*/vis_data/scalars.json'):
        figures.write_text('')
    assert train(cut, '--resume').wait(timeout=300) == 0
    assert_same_end(whole, cut, 12)


@pytest.mark.slow
@pytest.mark.skipif(
    'CAMVID_ROOT' not in os.environ, reason='CAMVID_ROOT does not name the real data'
)
def test_killed_on_camvid(start, tmp_path) -> None:
    """The published model on real data, killed in an epoch, in a validation, and in a checkpoint."""
    train = trainer(
        start, 'configs/mmseg/fpn_pvt_tiny_spm_camvid.py', 'train_dataloader.batch_size=2',
        'train_cfg.max_iters=18', 'train_cfg.val_interval=9', 'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.interval=6', 'val_dataloader.dataset.indices=24',
    )  # fmt: skip
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    assert train(whole).wait(timeout=1200) == 0
    moments = {
        'in an epoch': (lambda log: ' 8/18]' in log, 6),
        'in a validation': (lambda log: 'Iter(val) [ 2/24]' in log, 6),
        'in a checkpoint': (lambda log: any(cut.glob('iter_12.pth.part')), 6),
        'in the last validation': (
            lambda log: 'Iter(val) [ 2/24]' in log.partition('[18/18]')[2],
            18,
        ),
    }
    for moment, (condition, newest) in moments.items():
        run = train(cut, '--resume')
        wait_for(lambda: condition(run.log.read_text()), run, seconds=1200, pause=0.001)  # noqa: B023
        kill(run)
        assert reached(cut) == newest, moment
    assert train(cut, '--resume').wait(timeout=1200) == 0
    assert_same_end(whole, cut, 18)


WRITE = """
import sys
from mmengine.fileio import get_file_backend
from spm_mm.engine import write_files_whole
write_files_whole()
backend = get_file_backend(sys.argv[1])
while True:
    backend.put(b'x' * 50_000_000, sys.argv[1])
"""


@pytest.mark.slow
def test_a_file_is_whole_or_not_there(start, tmp_path) -> None:
    target = tmp_path / 'iter_1.pth'
    for delay in (0.0, 0.01, 0.03):
        writer = start(sys.executable, '-c', WRITE, target, PYTHONPATH=str(ROOT))
        wait_for((tmp_path / 'iter_1.pth.part').exists, writer)
        time.sleep(delay)
        kill(writer)
        assert not target.exists() or target.stat().st_size == 50_000_000
        (tmp_path / 'iter_1.pth.part').unlink(missing_ok=True)
