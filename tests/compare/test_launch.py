import os
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from rich.console import Console

from spm_mm.compare import launch
from spm_mm.compare.launch import Launcher, environments, reason_of, run_cells
from spm_mm.compare.record import Record

BOTH = {'conv': {0: 20.0, 1: 22.0}, 'spm': {0: 30.0, 1: 31.0}}


@pytest.fixture(autouse=True)
def _often(monkeypatch) -> None:
    monkeypatch.setattr(launch, 'POLL_SECONDS', 0.02)


@pytest.fixture
def console(tmp_path):
    with open(tmp_path / 'said.txt', 'w') as file:
        yield Console(file=file, width=200)


def said(tmp_path) -> str:
    return (tmp_path / 'said.txt').read_text()


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_is_finished_is_skipped(make_plan, launcher, console) -> None:
    plan = make_plan(BOTH)
    run_cells(plan.cells, launcher, 2, console)
    assert [cell.state for cell in plan.cells] == ['finished'] * 4
    records = [Record.read(cell.folder) for cell in plan.cells]
    assert [record.metrics['mIoU'] for record in records] == [20.0, 30.0, 22.0, 31.0]
    run_cells(plan.cells, launcher, 2, console)
    assert all(Record.read(cell.folder).starts == 1 for cell in plan.cells)


def test_progress_is_shown_over_cells_and_inside_them(make_plan, launcher, tmp_path) -> None:
    plan = make_plan(BOTH, conv={'refused_late': True}, spm={'refused_late': True})
    with open(tmp_path / 'said.txt', 'w') as file:
        console = Console(file=file, force_terminal=True, color_system=None, width=100)
        run_cells(plan.cells, launcher, 2, console)
    text = re.sub(r'\x1b\[\??\d*[A-Za-z]', '', said(tmp_path))
    assert re.search(r'4 cells +\S+ +16/16', text)
    assert re.search(r'(conv|spm), seed \d +\S+ +[1-4]/4', text)


def test_a_failed_cell_stops_no_other_and_is_repeated(
    make_plan, launcher, console, folder_of
) -> None:
    plan = make_plan(BOTH, spm={'fail': True})
    run_cells(plan.cells, launcher, 1, console)
    assert [cell.state for cell in plan.cells] == ['finished', 'failed'] * 2
    failed = [cell for cell in plan.cells if cell.variant == 'spm']
    assert failed[0].failure['reason'] == 'ValueError: the loss is nan'
    for cell in failed:
        (cell.folder / 'mended').touch()
    run_cells(plan.cells, launcher, 1, console)
    assert [cell.state for cell in plan.cells] == ['finished'] * 4
    record = Record.read(failed[0].folder)
    assert record.start['iter'] == 1  # from its checkpoint
    assert sorted(record.losses) == [1, 2, 3, 4]


def test_killed_and_continued(make_plan, launcher, console, folder_of) -> None:
    """The caller is killed while its run goes on; the next call waits for that run."""
    plan = make_plan({'conv': {0: 20.0}, 'spm': {0: 30.0}})
    folder = folder_of(plan, 'conv', 0)
    folder.mkdir(parents=True)
    (folder / 'hold').touch()
    script = (
        'import sys\nfrom pathlib import Path\n'
        'from spm_mm.compare.launch import Launcher, run_cells\nfrom spm_mm.compare.plan import Plan\n'
        f'run_cells(Plan.read(Path({str(plan.folder)!r})).cells, Launcher({list(launcher.trainer)!r}))'
    )
    caller = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.DEVNULL)
    wait_for(lambda: Record.read(folder).iteration == 2)
    caller.kill()
    caller.wait()
    (cell, other) = plan.cells
    assert cell.state == 'running'
    again = threading.Thread(target=run_in_thread, args=(plan, launcher, console))
    again.start()
    wait_for(lambda: other.finished)
    assert Record.read(folder).starts == 1
    (folder / 'hold').unlink()
    again.join(20)
    assert cell.state == 'finished'
    assert Record.read(folder).starts == 1


def run_in_thread(plan, launcher, console) -> None:
    """Signals are the main thread's alone."""
    pool = launch._Pool(plan.cells, launcher, 1, console, False)
    pool.run()


def test_a_killed_run_is_noted_and_resumed(
    make_plan, launcher, console, folder_of, tmp_path
) -> None:
    plan = make_plan({'conv': {0: 20.0}, 'spm': {0: 30.0}})
    folder = folder_of(plan, 'conv', 0)
    folder.mkdir(parents=True)
    (folder / 'hold').touch()

    def kill() -> None:
        wait_for(lambda: Record.read(folder).iteration == 2)
        for process in psutil.process_iter(['cmdline']):
            if str(folder) in (process.info['cmdline'] or ()):
                process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    run_cells(plan.cells, launcher, 1, console)
    killer.join()
    assert 'killed by SIGKILL' in plan.cells[0].failure['reason']
    (folder / 'hold').unlink()
    run_cells(plan.cells, launcher, 1, console)
    assert plan.cells[0].state == 'finished'
    assert Record.read(folder).start['iter'] == 2
    assert 'conv, seed 0: resumes' in said(tmp_path)


def test_interrupted_runs_end_with_the_caller(make_plan, launcher, console, folder_of) -> None:
    plan = make_plan({'conv': {0: 20.0}})
    folder = folder_of(plan, 'conv', 0)
    folder.mkdir(parents=True)
    (folder / 'hold').touch()

    def interrupt() -> None:
        wait_for(lambda: Record.read(folder).iteration == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_cells(plan.cells, launcher, 1, console)
    assert plan.cells[0].state == 'stopped'
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_two_callers_never_share_a_cell(cell) -> None:
    lock = cell.lock()
    assert cell.lock() is None
    assert cell.state == 'running'
    # A child that inherits the lock keeps the cell when its parent lets go.
    child = subprocess.Popen(
        [sys.executable, '-c', 'input()'], stdin=subprocess.PIPE, pass_fds=[lock]
    )
    os.close(lock)
    assert cell.state == 'running'
    child.communicate(b'\n')
    assert cell.state == 'waiting'


def test_other_data_is_refused(make_plan, launcher, console) -> None:
    plan = make_plan(
        {'conv': {0: 1.0}, 'spm': {0: 2.0}}, spm={'data': 'other', 'refused_late': True}
    )
    run_cells(plan.cells, launcher, 1, console)
    assert plan.cells[0].state == 'finished'
    assert (
        'refused: its first batches differ from those of conv, seed 0'
        in (plan.cells[1].failure['reason'])
    )


def test_a_refused_cell_is_no_measure_for_others(make_plan, launcher, console) -> None:
    columns = {'conv': {0: 1.0}, 'spm': {0: 2.0}, 'sia': {0: 3.0}}
    plan = make_plan(columns, spm={'data': 'other', 'refused_late': True})
    run_cells(plan.cells, launcher, 1, console)
    assert [cell.state for cell in plan.cells] == ['finished', 'failed', 'finished']


def test_what_finished_without_a_caller_is_looked_at(make_plan, launcher, console) -> None:
    plan = make_plan({'conv': {0: 1.0}, 'spm': {0: 2.0}}, spm={'data': 'other'})
    for cell in plan.cells:
        cell.folder.mkdir(parents=True)
        subprocess.run(launcher.command(cell), check=True)
    run_cells(plan.cells, launcher, 1, console)
    assert [cell.state for cell in plan.cells] == ['finished', 'failed']
    assert plan.cells[1].failure['refused']


def test_where_the_data_is_varied_the_images_count(make_plan, launcher, console) -> None:
    plan = make_plan({'conv': {0: 1.0}, 'spm': {0: 2.0}}, spm={'data': 'other'})
    run_cells(plan.cells, launcher, 1, console, same_images_only=True)
    assert [cell.state for cell in plan.cells] == ['finished'] * 2


def test_other_images_are_refused(make_plan, launcher, console) -> None:
    columns = {'conv': {0: 1.0}, 'spm': {0: 2.0}}
    plan = make_plan(columns, spm={'data': 'other', 'images': ['b', 'a']})
    run_cells(plan.cells, launcher, 1, console, same_images_only=True)
    assert 'reads other images than conv, seed 0' in plan.cells[1].failure['reason']


def test_slurm_submits_cells_as_jobs(
    make_plan, root, console, tmp_path, launcher, monkeypatch
) -> None:
    """With a stand-in for srun that notes its arguments and runs the fake trainer at once."""
    place = tmp_path / 'bin'
    place.mkdir()
    srun = place / 'srun'
    srun.write_text(
        f'#!/usr/bin/env bash\necho "$*" >> {tmp_path}/jobs\n'
        f'args="$*"; exec {sys.executable} {launcher.trainer[-1]} ${{args##*train.py }}\n'
    )
    srun.chmod(0o755)
    monkeypatch.setenv('PATH', f'{place}{os.pathsep}{os.path.dirname(sys.executable)}{os.pathsep}'
                       f'{os.environ["PATH"]}')  # fmt: skip
    monkeypatch.setenv('GPUS', '2')
    plan = make_plan({'conv': {0: 1.0}, 'spm': {0: 2.0}})
    slurm = Launcher([sys.executable, str(root / 'tools/train.py')], 'slurm', partition='short')
    run_cells(plan.cells, slurm, 2, console)
    assert [cell.state for cell in plan.cells] == ['finished'] * 2
    jobs = (tmp_path / 'jobs').read_text().splitlines()
    assert len(jobs) == 2
    assert all('--partition=short' in job and '--ntasks=2' in job for job in jobs)
    assert {name for job in jobs for name in ('conv', 'spm') if f'--job-name={name}_seed_0' in job}


def test_gpus_and_cores_are_shared(monkeypatch) -> None:
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2,3,5')
    gpus = [slot['CUDA_VISIBLE_DEVICES'] for slot in environments(4)]
    assert gpus == ['2', '3', '5', '2']
    assert [slot['CUDA_VISIBLE_DEVICES'] for slot in environments(1, 2)] == ['2,3']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(launch.psutil, 'cpu_count', lambda logical: 8)
    assert environments(2, 2) == [{'OMP_NUM_THREADS': '2'}] * 2
    assert environments(1) == [{}]


def test_the_reason_of_a_failure(tmp_path) -> None:
    log = tmp_path / 'log'
    log.write_text('Traceback\ntorch.OutOfMemoryError: CUDA out of memory. Tried\nmore\n')
    assert reason_of(log, 1) == 'torch.OutOfMemoryError: CUDA out of memory. Tried'
    log.write_text("error: PVT has no arch 'tyni'\n")
    assert reason_of(log, 2) == "PVT has no arch 'tyni'"
    assert reason_of(log, 2, log.stat().st_size) == 'exit status 2'
    assert reason_of(tmp_path / 'none', 3) == 'exit status 3'
    assert reason_of(log, -9) == 'killed by SIGKILL (is the memory exhausted?)'


def test_a_record_that_was_cut_off(cell) -> None:
    cell.folder.mkdir()
    (cell.folder / 'record.jsonl').write_text(
        '{"event": "start", "iter": 0}\n{"iter": 1, "loss": 3.0}\n'
        '{"iter": 2, "loss": 2.0}\n{"iter": 3, "lo'
        '\n{"event": "start", "iter": 1}\n{"iter": 2, "loss": 2.5}\n'
    )
    record = Record.read(cell.folder)
    assert record.losses == {1: 3.0, 2: 2.5}
    assert (record.starts, record.ended) == (2, False)
