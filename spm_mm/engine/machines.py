"""What a run on several processes and machines needs: lost peers, lost launchers, no common disk."""

import ctypes
import os
import re
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

import torch
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    get_dist_info,
    get_rank,
    is_distributed,
)
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch.distributed.distributed_c10d import _get_default_store

from spm_mm.errors import check_count
from spm_mm.registry import HOOKS

__all__ = [
    'SeveralMachinesHook',
    'end_with_launcher',
    'is_broken_link',
    'lost_processes',
    'machine_of',
    'note_machines',
]

WAIT = 10.0
BROKEN = re.compile(
    r'gloo|nccl|connection (was )?(closed|reset|refused)|connection timed out|broken pipe',
    re.IGNORECASE,
)
PR_SET_PDEATHSIG = 1
_machines: list[str] = []


def note_machines() -> None:
    """Learn the machine of every process; to be called by all of them."""
    _machines[:] = all_gather_object(socket.gethostname())


def machine_of(rank: int) -> str:
    """Name of the machine of a process."""
    return _machines[rank] if rank < len(_machines) else 'an unknown machine'


def end_with_launcher() -> None:
    """Let this process end when the launcher that started it does (Linux).

    A torchrun that is killed by SIGKILL leaves its processes running, which go on to train and to write
    checkpoints.
    """
    if sys.platform == 'linux' and 'TORCHELASTIC_RUN_ID' in os.environ:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def is_broken_link(error: BaseException) -> bool:
    """Whether an error is one of communication between processes."""
    kinds = (torch.distributed.DistBackendError, torch.distributed.DistNetworkError)
    return isinstance(error, kinds) or (
        isinstance(error, RuntimeError) and is_distributed() and bool(BROKEN.search(str(error)))
    )


def lost_processes(error: RuntimeError, wait: float = WAIT) -> list[int]:
    """Ranks that give no sign of life after an error, if it is one of communication.

    Every process that sees such an error reports itself at the store of the run. Who has not done so
    in time is gone. Where the store cannot be reached it is the first process, or its machine.

    Args:
        error: What a collective operation raised.
        wait: Seconds until a process counts as gone. Default 10.
    """
    if not is_distributed() or not is_broken_link(error):
        return []
    rank, size = get_dist_info()
    deadline = time.monotonic() + wait
    try:
        store = _get_default_store()
        store.set(f'spm_mm/alive/{rank}', '')
        while missing := [i for i in range(size) if not store.check([f'spm_mm/alive/{i}'])]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return missing
    except RuntimeError:
        return [0]


@HOOKS.register_module()
class SeveralMachinesHook(Hook):
    """Notices lost machines within a minute, and validates where machines share no disk.

    - A cut link breaks a connection of TCP after 15 minutes or more. Here the connections between the
      processes of the run ask for a sign of life by themselves (``SO_KEEPALIVE``,
      ``TCP_USER_TIMEOUT``; Linux). The kernel answers, so a process may compute as long as it likes:
      the timeout of collective operations stays ``env_cfg.dist_cfg.timeout``.
    - mmengine's metrics gather results in a folder. Where the processes do not see the same one, they
      gather them over the network instead (``collect_device='gpu'``, which works on CPUs, too).

    Args:
        timeout: Seconds until a connection without an answer is broken, 4 or more. Default 30. The
            processes that are left then take 10 more to find out who is gone, and some to end.
    """

    def __init__(self, timeout: int = 30) -> None:
        check_count('timeout', timeout, minimum=4)
        self.timeout = timeout
        self._addresses: set[str] | None = None

    def before_run(self, runner: Runner) -> None:
        if not is_distributed() or not hasattr(socket, 'TCP_USER_TIMEOUT'):
            return
        own = {_address(connection.getsockname()) for connection in _connections()}
        self._addresses = set().union(*all_gather_object(own))
        self._watch()

    def before_train(self, runner: Runner) -> None:
        self._watch()

    def before_val(self, runner: Runner) -> None:
        self._gather(runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        self._gather(runner.test_loop)

    def _watch(self) -> None:
        """Set the options of all connections between the processes, new ones included."""
        if self._addresses is None:
            return
        options = {
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): self.timeout // 2,
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): max(1, self.timeout // 8),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 4,
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 1000 * self.timeout,
        }
        for connection in _connections():
            with suppress(OSError):  # closed meanwhile
                if _address(connection.getpeername()) in self._addresses:
                    for option, value in options.items():
                        connection.setsockopt(*option, value)

    def _gather(self, loop: BaseLoop) -> None:
        self._watch()
        if not is_distributed():
            return
        # The folder is made in the working directory, as mmengine makes its own.
        folder = [tempfile.mkdtemp(prefix='.spm_mm_', dir='.') if get_rank() == 0 else None]
        broadcast_object_list(folder)
        shared = all(all_gather_object(os.path.isdir(folder[0])))
        if get_rank() == 0:
            os.rmdir(folder[0])
        if shared:
            return
        for metric in getattr(loop.evaluator, 'metrics', ()):
            if metric.collect_device == 'cpu':
                metric.collect_device = 'gpu'
                if get_rank() == 0:
                    loop.runner.logger.info(
                        f'{type(metric).__name__}: the machines share no disk, so results are gathered'
                        ' over the network.'
                    )


def _address(name: tuple) -> str:
    """The address of a socket; one of version 4 inside version 6 as the plain one."""
    return name[0].removeprefix('::ffff:')


def _connections() -> Iterator[socket.socket]:
    """Open TCP connections of this process."""
    for number in map(int, os.listdir('/proc/self/fd')):
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            copy = os.dup(number)  # closing it leaves the connection open
        except OSError:  # closed meanwhile
            continue
        with socket.socket(fileno=copy) as connection:
            try:
                connection.getpeername()
            except OSError:  # it listens, or is not connected
                continue
            if connection.family in (socket.AF_INET, socket.AF_INET6):
                yield connection
