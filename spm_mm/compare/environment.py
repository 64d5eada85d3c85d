"""Machine, versions and commit, as they stand beside a measurement."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch

import spm_mm

__all__ = ['environment']

DISTRIBUTIONS = (
    'torch', 'torchvision', 'mmengine', 'onedl-mmengine', 'mmcv', 'mmcv-lite', 'onedl-mmcv', 'mmdet',
    'onedl-mmdetection', 'mmsegmentation', 'onedl-mmsegmentation', 'mmpretrain', 'onedl-mmpretrain',
)  # fmt: skip


@functools.cache
def environment() -> dict[str, Any]:
    """What a result depends on beside its config: hardware, versions, and the commit of the suite."""
    versions = {'python': platform.python_version(), 'spm_mm': spm_mm.__version__}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        'processor': _processor(),
        'cores': psutil.cpu_count(logical=False),
        'memory_gib': round(psutil.virtual_memory().total / 2**30, 1),
        'gpus': [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        'versions': versions,
        'commit': _commit(),
    }


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    """The commit of the checkout that runs, with a mark if it was changed; None outside of one."""
    folder = Path(spm_mm.__file__).parent

    def git(*arguments: str) -> str:
        call = ['git', '-C', str(folder), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        head = git('rev-parse', '--short', 'HEAD')
        changed = git('status', '--porcelain', '--untracked-files=no')
    except (OSError, subprocess.CalledProcessError):
        return None
    return f'{head} with changes' if changed else head
