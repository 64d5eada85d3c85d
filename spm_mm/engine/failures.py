"""One line in front of an error of the frameworks: which file, which key of the config, which samples.

Nothing here decides anything: an error stays what it is.
"""

import errno
import functools
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement

from spm_mm.engine.config_keys import allowed_by, frames_of, key_of, keys_of
from spm_mm.engine.machines import is_broken_link
from spm_mm.engine.process import say
from spm_mm.errors import UserError

__all__ = ['explained', 'name_files']

FILES = ('img_path', 'seg_map_path')
TRUTHS = ('gt_sem_seg', 'gt_label', 'gt_instances')
SHOWN = 4
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
DATA_ERRORS = (OSError, AssertionError, ValueError, KeyError)
# Data sets of MMPretrain that fetch themselves where they are missing.
DOWNLOADED = ('MNIST', 'FashionMNIST', 'CIFAR10', 'CIFAR100')
HINTS = {
    'Expected more than 1 value per channel': 'batch norm needs more than one value a channel: train'
    ' with larger pictures or with more than one in a batch',
    'is not in the': 'the name is misspelt, or the module that registers it is not imported'
    ' (custom_imports)',
    'unexpected keyword argument': 'the class does not take that key',
    'missing .* required .* argument': 'the class needs that key',
    'need at least one array to concatenate': 'the dataset has no samples',
    'None is not a callable object': 'optimizer.type is misspelt, or the module that registers it is'
    ' not imported (custom_imports)',
}


def name_files() -> None:
    """Let mmengine's datasets log the files of a sample that cannot be prepared.

    The error itself is that of the framework; from a worker of a data loader it does not name them.
    """
    prepare = BaseDataset.prepare_data
    if hasattr(prepare, '__wrapped__'):
        return

    @functools.wraps(prepare)
    def prepare_data(self: BaseDataset, idx: int) -> Any:
        try:
            return prepare(self, idx)
        except Exception as error:
            info = self.get_data_info(idx)
            named = ', '.join(f'{key}={info[key]}' for key in FILES if info.get(key))
            print_log(
                f'Sample {idx} of {type(self).__name__} cannot be prepared'
                f' ({named or "it names no file"}): {_said(error)}',
                'current',
                logging.ERROR,
            )
            raise

    BaseDataset.prepare_data = prepare_data


@contextmanager
def explained(cfg: Config, loaders: tuple[str, ...]) -> Iterator[None]:
    """Print a line in front of whatever building or running a Runner raises.

    Args:
        cfg: The run's config.
        loaders: Names of the data loaders that run, e.g. ``('train_dataloader',)``.

    Raises:
        UserError: In the place of an error whose traceback says nothing more: data that is not there,
            a name that is not registered, keys that a class does not take.
    """
    try:
        yield
    except UserError as error:
        key = key_of(error, cfg)
        if key is None:
            raise
        raise UserError(f'{cfg.filename}: {key}: {error}') from error
    except Exception as error:
        if is_broken_link(error):
            raise
        if isinstance(error, OSError) and error.errno in NOT_WRITTEN:
            raise UserError(f'{error.filename or cfg.work_dir}: {error.strerror}') from error
        line, complete = _explain(error, cfg, loaders)
        if complete:
            raise UserError(line) from error
        say(line)
        raise


def _explain(error: Exception, cfg: Config, loaders: tuple[str, ...]) -> tuple[str, bool]:
    """The line on an error, and whether its traceback says nothing more."""
    said = _said(error)
    hints = [hint for pattern, hint in HINTS.items() if re.search(pattern, said)]
    try:
        key, batch = key_of(error, cfg), _batch(error)
        missing = _missing_data(cfg, loaders) if isinstance(error, DATA_ERRORS) else []
        keys = [key] if key else keys_of(error, cfg)
        hints.append(allowed_by(error))
    except (
        Exception
    ):  # values that do not compare, a GPU that is lost: the error itself must not be
        return f'{cfg.filename}: {said}', False
    line = ': '.join(filter(None, [str(cfg.filename), *keys, batch, *missing, said, *hints]))
    not_found = isinstance(error, FileNotFoundError)
    in_registry = frames_of(error)[0].f_code.co_name in ('build_from_cfg', 'build_runner_from_cfg')
    # run_tool shows no traceback of these either.
    of_a_file = isinstance(error, OSError) and error.filename is not None and not not_found
    return line, bool(missing and (not_found or key)) or in_registry or of_a_file


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    # A worker hands its traceback on as the message; what was said is at the end.
    line = lines[-1] if lines and lines[0].startswith('Caught ') else next(iter(lines), '')
    return f'{type(error).__name__}: {line}'


def _batch(error: BaseException) -> str | None:
    """Files of the batch that was being processed, with their ground truth."""
    batch = next(
        (f.f_locals['data_batch'] for f in frames_of(error) if 'data_batch' in f.f_locals), None
    )
    if not isinstance(batch, Mapping) or not isinstance(batch.get('data_samples'), list | tuple):
        return None
    samples = [sample for sample in batch['data_samples'] if isinstance(sample, BaseDataElement)]
    described = [_describe(sample) for sample in samples[:SHOWN]]
    more = f' and {len(samples) - SHOWN} more' if len(samples) > SHOWN else ''
    return f'in a batch of {"; ".join(described)}{more}' if described else None


def _describe(sample: BaseDataElement) -> str:
    files = [str(sample.get(key)) for key in FILES if sample.get(key)]
    truths = []
    for name in TRUTHS:
        truth = sample.get(name)
        data = getattr(truth, 'data', None) if name == 'gt_sem_seg' else truth
        data = getattr(data, 'labels', data)
        if data is not None and hasattr(data, 'numel') and data.numel():
            shape = ' x '.join(map(str, data.shape))
            truths.append(f'{name} of shape {shape}, values {data.min()} to {data.max()}')
    return ' '.join([' '.join(files) or 'a sample without a file', *(f'({t})' for t in truths)])


def _missing_data(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """What the data loaders of a config read and is not there."""
    missing = []
    for loader in loaders:
        for dataset in _datasets((cfg.get(loader) or {}).get('dataset')):
            root = dataset.get('data_root') or '.'
            if '://' in str(root) or dataset.get('type') in DOWNLOADED:
                continue
            prefix = dataset.get('data_prefix') or {}
            parts = [prefix] if isinstance(prefix, str) else prefix.values()
            paths = [Path(root), *(Path(root, p) for p in (*parts, dataset.get('ann_file')) if p)]
            for path in paths:
                empty = path.is_dir() and not any(path.iterdir())
                if empty or not path.exists():
                    state = 'is empty' if empty else 'does not exist'
                    missing.append(
                        f'{path} {state}, which {loader} reads (see docs/guides/datasets.md)'
                    )
                    break
    return missing


def _datasets(cfg: Any) -> Iterator[Mapping]:
    """The datasets in a config, also inside wrappers such as RepeatDataset or ConcatDataset."""
    if not isinstance(cfg, Mapping):
        return
    inner = [cfg['dataset']] if 'dataset' in cfg else list(cfg.get('datasets', ()))
    for part in inner:
        yield from _datasets(part)
    if not inner:
        yield cfg
