"""Configs, each read once in a test session: reading them takes longer than what most tests do."""

import copy
import functools
from pathlib import Path

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / 'configs').glob('*/*.py'))
# Peers are models of the frameworks' own classes; their files are known by their names.
PEERS = ('resnet', 'resnext', 'deit', 'vit', 'hrnet')
OURS = [
    path
    for path in FILES
    if not path.stem.split('_', path.parent.name != 'mmpretrain')[-1].startswith(PEERS)
]


@functools.cache
def _load(path: Path) -> Config:
    return Config.fromfile(path)


def load(path: Path | str) -> Config:
    """A copy of a config, which the test may change.

    Args:
        path: The file, or its name below ``configs/`` without the suffix, ``'mmseg/NAME'``.
    """
    return copy.deepcopy(_load(ROOT / 'configs' / f'{path}.py' if isinstance(path, str) else path))
