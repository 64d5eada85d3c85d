"""Names the processes that have gone when communication between them breaks."""

import re
import time

import torch
from mmengine.dist import get_dist_info, is_distributed
from torch.distributed.distributed_c10d import _get_default_store

__all__ = ['lost_processes']

WAIT = 10.0
BROKEN = re.compile(
    r'gloo|nccl|connection (was )?(closed|reset|refused)|broken pipe', re.IGNORECASE
)


def lost_processes(error: RuntimeError, wait: float = WAIT) -> list[int]:
    """Ranks that give no sign of life after an error, if it is one of communication.

    Every process that sees such an error reports itself at the store of the run; who has not done so in
    time is gone. Without the store the process that holds it is, which is the first one's launcher.

    Args:
        error: What a collective operation raised.
        wait: Seconds until a process counts as gone.
    """
    broken = isinstance(error, torch.distributed.DistBackendError) or BROKEN.search(str(error))
    if not is_distributed() or not broken:
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
