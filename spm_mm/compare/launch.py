"""Running the cells of a comparison: what is left of them, some at a time."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from spm_mm.compare.record import BATCHES, Cell, Record, same_start

__all__ = ['Launcher', 'environments', 'reason_of', 'run_cells', 'unfair']

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Launcher:
    """How a cell is started.

    Args:
        trainer: Command to which the config, ``--work-dir`` and ``--resume`` are added.
        kind: ``'none'`` runs it here; ``'slurm'`` submits it by ``tools/slurm_train.sh``, which waits
            for the job.
        processes: Processes of a cell that runs here.
        partition: Of Slurm.
    """

    trainer: Sequence[str]
    kind: str = 'none'
    processes: int = 1
    partition: str = ''

    def command(self, cell: Cell) -> list[str]:
        config, folder = str(cell.config), str(cell.folder)
        if self.kind == 'slurm':
            script = str(Path(self.trainer[-1]).with_name('slurm_train.sh'))
            job = re.sub(r'[^\w.-]+', '_', cell.name)
            return [script, self.partition, job, config, folder, '--resume']
        rest = [config, '--work-dir', folder, '--resume']
        if self.processes == 1:
            return [*self.trainer, *rest]
        python, script = self.trainer
        torchrun = str(Path(script).with_name('torchrun.py'))
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        spread = [f'--nproc_per_node={self.processes}', f'--master_port={port}']
        return [python, torchrun, *spread, script, *rest, '--launcher', 'pytorch']


def environments(jobs: int, processes: int = 1) -> list[dict[str, str]]:
    """What each of ``jobs`` slots adds to the environment: its GPUs, or its share of the cores."""
    gpus = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = (
        gpus.split(',') if gpus is not None else list(map(str, range(torch.cuda.device_count())))
    )
    names = [name for name in names if name]
    if names:
        slots = [
            [names[(slot * processes + i) % len(names)] for i in range(min(processes, len(names)))]
            for slot in range(jobs)
        ]
        return [dict(CUDA_VISIBLE_DEVICES=','.join(slot)) for slot in slots]
    if jobs * processes == 1 or 'OMP_NUM_THREADS' in os.environ:
        return [{} for _ in range(jobs)]
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return [dict(OMP_NUM_THREADS=str(max(1, cores // (jobs * processes)))) for _ in range(jobs)]


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen
    lock: int
    slot: int
    written: int
    """Bytes of the log that earlier tries wrote."""


def unfair(cell: Cell, others: Sequence[Cell], same_images_only: bool) -> str | None:
    """Why a cell must not be compared with others of its seed, or None.

    Args:
        cell: One that trains or has trained.
        others: The cells that came before it.
        same_images_only: Where the data is what is varied: compare the order of the images, not what
            the model was given.
    """
    mine = cell.batches
    for other in others:
        theirs = other.batches
        if other.seed != cell.seed or other == cell or not mine or not theirs:
            continue
        if (other.failure or {}).get('refused'):
            continue
        if not same_start(mine, theirs, 'images'):
            return f'it reads other images than {other.name}: {mine["images"]}, {theirs["images"]}'
        if not same_images_only and not same_start(mine, theirs, 'sha256'):
            return (
                f'its first batches differ from those of {other.name}; where num_workers is 0 the'
                ' augmentation depends on the model: set train_dataloader.num_workers to 1 or more'
            )
        worlds = [Record.read(one.folder).start.get('world_size') for one in (cell, other)]
        if worlds[0] != worlds[1]:
            return f'it runs on {worlds[0]} processes, {other.name} on {worlds[1]}'
    return None


def reason_of(log: Path, status: int, written: int = 0) -> str:
    """Why a run failed: the last error in its log, or what its exit status says.

    Args:
        log: What the run has printed.
        status: Its exit status; negative for a signal.
        written: Bytes of the log that are of earlier tries.
    """
    if status < 0:
        name = signal.Signals(-status).name
        more = ' (is the memory exhausted?)' if name == 'SIGKILL' else ''
        return f'killed by {name}{more}'
    said = log.read_bytes()[written:] if log.exists() else b''
    lines = said.decode(errors='replace').splitlines()
    for line in reversed(lines):
        if match := re.match(r'(?:error: |[\w.]*(?:Error|Exception|Interrupt)\b: ?).*', line):
            return match[0].removeprefix('error: ')
    last = next((line for line in reversed(lines) if line.strip()), '')
    return f'exit status {status}: {last}' if last else f'exit status {status}'


def run_cells(
    cells: Sequence[Cell],
    launcher: Launcher,
    jobs: int = 1,
    console: Console | None = None,
    same_images_only: bool = False,
) -> None:
    """Run every cell that is not finished, ``jobs`` at a time, and wait for those run elsewhere.

    A cell that fails is noted and does not stop the others. Interrupted, the runs that were started
    here are ended; the next call resumes them.

    Raises:
        KeyboardInterrupt: On SIGINT or SIGTERM, after the runs have ended.
    """
    pool = _Pool(cells, launcher, jobs, console or Console(), same_images_only)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        pool.run()
    finally:
        pool.end()
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class _Pool:
    def __init__(
        self,
        cells: Sequence[Cell],
        launcher: Launcher,
        jobs: int,
        console: Console,
        same_images_only: bool,
    ) -> None:
        self.cells, self.launcher, self.same_images_only = cells, launcher, same_images_only
        self.console = console
        here = launcher.kind == 'none'
        self.environments = environments(jobs, launcher.processes) if here else [{}] * jobs
        self.running: list[_Running] = []
        self.began = time.time()
        self.waiting = [cell for cell in cells if not cell.finished]

    def run(self) -> None:
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as bar:
            self.bar = bar
            self.tasks: dict[str, TaskID] = {}
            said = False
            while self.waiting or self.running:
                self._start_cells()
                if self.waiting and not self.running and not said:
                    said = True
                    self.console.print(f'waiting for {len(self.waiting)} cells that run elsewhere')
                for one in list(self.running):
                    self._look_at(one)
                self._show()
                time.sleep(POLL_SECONDS)
        # Those that finished when no caller was there to look.
        for i, cell in enumerate(self.cells):
            refused = cell.finished and unfair(cell, self.cells[:i], self.same_images_only)
            if refused:
                cell.fail(f'refused: {refused}', refused=True)
                self._say(cell, f'refused: {refused}')

    def end(self) -> None:
        """End what still runs, and its processes."""
        for one in self.running:
            _kill(one.process)
            os.close(one.lock)
        self.running.clear()

    def _start_cells(self) -> None:
        for cell in list(self.waiting):
            free = set(range(len(self.environments))) - {one.slot for one in self.running}
            if not free:
                return
            lock = cell.lock()
            if lock is None:
                continue
            # Another caller may have run it since.
            failure = cell.failure
            if cell.finished or (failure and failure['time'] > self.began):
                os.close(lock)
                self.waiting.remove(cell)
                self._say(cell, 'finished' if cell.finished else f'failed: {failure["reason"]}')
                continue
            self.waiting.remove(cell)
            self._start(cell, lock, min(free))

    def _start(self, cell: Cell, lock: int, slot: int) -> None:
        resumes = any(cell.folder.glob('*.pth'))
        if not resumes:
            (cell.folder / BATCHES).unlink(missing_ok=True)
        cell.forgive()
        with open(cell.log, 'ab') as log:
            written = log.tell()
            process = subprocess.Popen(  # noqa: S603
                self.launcher.command(cell),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environments[slot]},
                pass_fds=[lock],
                start_new_session=True,
            )
        self.running.append(_Running(cell, process, lock, slot, written))
        self._say(cell, 'resumes' if resumes else 'starts')

    def _look_at(self, one: _Running) -> None:
        cell, status = one.cell, one.process.poll()
        refused = unfair(cell, self._before(cell), self.same_images_only)
        reason = refused and f'refused: {refused}'
        if refused:
            _kill(one.process)
        elif status is None:
            return
        elif status:
            reason = reason_of(cell.log, status, one.written)
        elif not Record.read(cell.folder).ended:
            reason = 'it ended without finishing its training'
        elif not Record.read(cell.folder).validations:
            reason = 'it was never validated: the config needs val_dataloader and val_evaluator'
        if reason is not None:
            cell.fail(reason, refused=bool(refused))
        self.running.remove(one)
        os.close(one.lock)
        self._say(cell, f'failed: {reason}' if reason else 'finished')

    def _before(self, cell: Cell) -> list[Cell]:
        """The cells that this one must agree with: those that finished, and those before it."""
        earlier = self.cells[: self.cells.index(cell)]
        return [*earlier, *(c for c in self.cells if c.finished and c not in earlier)]

    def _say(self, cell: Cell, what: str) -> None:
        self.console.print(f'{cell.name}: {what}', markup=False, highlight=False)

    def _show(self) -> None:
        if self.bar.disable:
            return
        started = done = whole = 0
        for cell in self.cells:
            record = Record.read(cell.folder)
            iterations = record.start.get('max_iters', 0)
            started += bool(record.start)
            whole += iterations
            done += record.iteration
            if any(one.cell == cell for one in self.running):
                self._update(cell.name, record.iteration, iterations)
            elif cell.name in self.tasks:
                self.bar.remove_task(self.tasks.pop(cell.name))
        if started:
            # The cells have the same length, so those to come count like those that began.
            self._update(f'{len(self.cells)} cells', done, whole // started * len(self.cells))

    def _update(self, name: str, completed: int, total: int) -> None:
        numbers = dict(completed=completed, total=total or None)
        if name in self.tasks:
            self.bar.update(self.tasks[name], **numbers)
        else:  # what was done before does not count as speed
            self.tasks[name] = self.bar.add_task(name, **numbers)


def _kill(process: subprocess.Popen) -> None:
    """End a process and its workers: politely, then by force."""
    for name in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, name)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
