"""Two processes on the CPU that run one function, for the tests of distributed training."""

import socket
from collections.abc import Callable
from datetime import timedelta

import torch
from torch import distributed, multiprocessing

WORLD_SIZE = 2


def run_in_two_processes(function: Callable[..., None], *args: object) -> None:
    """Call a function of a module with ``args`` in two processes of one gloo group.

    An exception in either of them is raised here.
    """
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_run, (port, function, args), nprocs=WORLD_SIZE)


def _run(rank: int, port: int, function: Callable[..., None], args: tuple) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo',
        init_method=f'tcp://127.0.0.1:{port}',
        rank=rank,
        world_size=WORLD_SIZE,
        timeout=timedelta(minutes=1),
    )
    try:
        function(*args)
    finally:
        distributed.destroy_process_group()
