"""The files of a cell: its record, its failure, and the lock that keeps others away."""

import contextlib
import fcntl
import functools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    'BATCHES',
    'RECORD',
    'Cell',
    'Record',
    'read_json',
    'same_start',
    'write_json',
    'write_text',
]

RECORD = 'record.jsonl'
BATCHES = 'batches.json'
FAILURE = 'failure.json'
LOCK = 'cell.lock'
LOG = 'train.log'


def read_json(path: Path) -> Any:
    """What a JSON file holds; None without the file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def same_start(one: dict[str, list], other: dict[str, list], key: str) -> bool:
    """Whether two runs began with the same batches, as far as both have come.

    Args:
        one: :attr:`Cell.batches` of a run.
        other: That of another.
        key: ``'sha256'`` compares what the models were given, ``'images'`` the order of the images.
    """
    pairs = [[*one[key]], [*other[key]]]
    if key == 'images':  # whatever the size of a batch
        pairs = [[name for batch in batches for name in batch] for batches in pairs]
    count = min(map(len, pairs))
    return pairs[0][:count] == pairs[1][:count]


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=1, default=str) + '\n')


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with open(handle, 'w') as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@dataclass
class Record:
    """What a cell has written so far; iterations that a restart repeated count once."""

    start: dict[str, Any] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    validations: dict[int, dict[str, Any]] = field(default_factory=dict)
    iteration: int = 0
    ended: bool = False
    starts: int = 0

    @classmethod
    def read(cls, folder: Path) -> 'Record':
        """The record of a work dir, not to be changed; an empty one where there is none yet."""
        path = folder / RECORD
        try:
            state = path.stat()
        except FileNotFoundError:
            return cls()
        return cls._parsed(path, state.st_mtime_ns, state.st_size)

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def _parsed(cls, path: Path, *_state: int) -> 'Record':
        record = cls()
        for line in path.read_text().splitlines():
            try:
                record._add(json.loads(line))
            except json.JSONDecodeError:  # cut off when the run was killed
                continue
        return record

    def _add(self, line: dict[str, Any]) -> None:
        event, iteration = line.get('event'), line['iter']
        if event == 'start':
            self.start, self.ended = line, False
            self.starts += 1
            self.losses = {i: loss for i, loss in self.losses.items() if i <= iteration}
            self.validations = {i: m for i, m in self.validations.items() if i <= iteration}
        elif event == 'val':
            self.validations[iteration] = line['metrics']
        elif event == 'end':
            self.ended = True
        elif line['loss'] is not None:
            self.losses[iteration] = line['loss']
        self.iteration = iteration

    @property
    def metrics(self) -> dict[str, Any]:
        """Those of the last validation."""
        return self.validations[max(self.validations)] if self.validations else {}


@dataclass(frozen=True)
class Cell:
    """One run of a comparison: a column and a seed. ``folder`` is its work dir."""

    variant: str
    seed: int
    folder: Path
    config: Path

    @property
    def name(self) -> str:
        return f'{self.variant}, seed {self.seed}'

    @property
    def log(self) -> Path:
        return self.folder / LOG

    @property
    def finished(self) -> bool:
        record = Record.read(self.folder)
        return record.ended and bool(record.validations) and self.failure is None

    @property
    def failure(self) -> dict[str, Any] | None:
        return read_json(self.folder / FAILURE)

    def fail(self, reason: str, refused: bool = False) -> None:
        """Note why the cell failed, or that it must not be compared."""
        write_json(self.folder / FAILURE, dict(reason=reason, refused=refused, time=time.time()))

    def forgive(self) -> None:
        """Take the note back, before another try."""
        (self.folder / FAILURE).unlink(missing_ok=True)

    @property
    def batches(self) -> dict[str, list] | None:
        """Of each of the first batches the names of its ``images``, and a ``sha256`` of its content."""
        return read_json(self.folder / BATCHES)

    def lock(self) -> int | None:
        """Take the cell: an open file that holds the lock, or None where another caller has it.

        The lock belongs to the open file. A child process that inherits it keeps the cell taken when
        its parent dies, and the system frees it with the last of them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        return handle

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether the cell could be taken, for the time of the block."""
        handle = self.lock()
        try:
            yield handle is not None
        finally:
            if handle is not None:
                os.close(handle)

    @property
    def state(self) -> str:
        """``finished``, ``running`` (here or elsewhere), ``failed``, ``stopped`` or ``waiting``."""
        if self.finished:
            return 'finished'
        if not self.folder.exists():
            return 'waiting'
        with self.locked() as free:
            if not free:
                return 'running'
        if self.failure:
            return 'failed'
        return 'stopped' if (self.folder / RECORD).exists() else 'waiting'
