"""What ``tools/train.py`` and ``tools/test.py`` share: from the command line to a Runner."""

import argparse
import os
import pickle
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import get_world_size, is_distributed
from mmengine.runner import Runner

from spm_mm.compat import allow_training_checkpoints, load_checkpoint, reason
from spm_mm.engine.atomic_files import write_files_whole
from spm_mm.engine.data_guard import GuardedRunner
from spm_mm.engine.liveness import lost_processes
from spm_mm.errors import UserError

__all__ = [
    'add_arguments',
    'add_config',
    'build_runner',
    'latest_checkpoint',
    'load_config',
    'load_from',
    'read_config',
    'run_tool',
]

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
# Data sets of MMPretrain that fetch themselves where they are missing.
DOWNLOADED = ('MNIST', 'FashionMNIST', 'CIFAR10', 'CIFAR100')


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool's ``main``; a :class:`UserError` ends it with one sentence and exit status 2.

    Of several processes on a machine that say the same one speaks. Where others are gone, their ranks
    are named and the status is 1. Whatever reads a checkpoint, it is by torch's safe loader.
    """
    # Some releases of mmengine load again without it what it refuses.
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    try:
        main()
    except UserError as error:
        # A data loader's worker hands on the traceback, too; the sentence is at its end.
        _say(str(error).rpartition(f'{UserError.__name__}: ')[2].strip())
        sys.exit(2)
    except pickle.UnpicklingError as error:
        _say(f'the checkpoint named last above cannot be read by the safe loader: {reason(error)}')
        sys.exit(2)
    except RuntimeError as error:
        lost = lost_processes(error)
        if not lost:
            raise
        sys.exit(
            f'error: process {", ".join(map(str, lost))} of {get_world_size()} is gone, so this one'
            f' stops ({str(error).splitlines()[0]}); --resume continues from the last checkpoint'
        )
    finally:
        if is_distributed():
            # Else gloo's threads may outlive the interpreter, which then aborts.
            torch.distributed.destroy_process_group()


def _say(message: str) -> None:
    """Print an error, unless another process of this launch on this machine has printed the same.

    Slurm's tasks have no place in common to tell; there the first of each machine speaks alone.
    """
    sys.stdout.flush()
    if 'TORCHELASTIC_ERROR_FILE' in os.environ:
        launch = Path(os.environ['TORCHELASTIC_ERROR_FILE']).parents[1]
        launch.mkdir(parents=True, exist_ok=True)
        try:
            (launch / f'{zlib.crc32(message.encode())}.said').touch(exist_ok=False)
        except FileExistsError:
            return
    elif os.environ.get('LOCAL_RANK', '0') != '0':
        return
    print(f'error: {message}', file=sys.stderr)


def add_arguments(parser: argparse.ArgumentParser, launcher: bool = True) -> None:
    """Add the arguments that training and testing have in common.

    Args:
        parser: The tool's parser.
        launcher: Whether the tool can run as several processes.
    """
    parser.add_argument(
        '--work-dir', help='where logs and checkpoints go; default work_dirs/CONFIG'
    )
    _add_options(parser)
    if not launcher:
        parser.set_defaults(launcher='none', local_rank=0)
        return
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add what a tool needs that only looks at a config: :func:`load_config` reads it."""
    parser.add_argument('config', help='config file of any of the three hosts')
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. model.backbone.arch=small key="[a,b]"',
    )


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and merge the overrides into it.

    Raises:
        UserError: If there is no such file, or an override does not fit it.
    """
    if not Path(args.config).is_file():
        raise UserError(f'config {args.config} does not exist')
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        try:
            cfg.merge_from_dict(args.cfg_options)
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f'--cfg-options do not fit {args.config}: {error}') from error
    return cfg


def read_config(args: argparse.Namespace) -> Config:
    """Read the config and merge what :func:`add_arguments` understands into it.

    Raises:
        UserError: If there is no such file, or an override does not fit it.
    """
    local_rank = os.environ.get('SLURM_LOCALID') if args.launcher == 'slurm' else None
    os.environ.setdefault('LOCAL_RANK', local_rank or str(args.local_rank))
    cfg = load_config(args)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    cfg.setdefault('work_dir', str(Path('work_dirs') / Path(args.config).stem))
    return cfg


def load_from(cfg: Config, checkpoint: str, partial: bool = False) -> None:
    """Let the Runner load a checkpoint, and refuse one of another model.

    Args:
        cfg: Config of any of the three hosts; it is changed.
        checkpoint: The file.
        partial: Take what fits of another model's, as for fine-tuning.

    Raises:
        UserError: If there is no such file, or the safe loader does not read it.
    """
    allow_training_checkpoints()
    load_checkpoint(checkpoint)  # mmengine would read it late, and say what is wrong badly
    cfg.load_from = checkpoint
    if not partial:
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='spm_mm.CheckpointGuardHook')]


def latest_checkpoint(work_dir: str) -> str | None:
    """The newest whole checkpoint ``iter_N.pth`` or ``epoch_N.pth`` of a work dir, None without one.

    A file that cannot be read, as a killed run of another program may leave, is passed over with a
    warning.
    """
    found = {}
    for path in Path(work_dir).glob('*.pth'):
        if match := re.fullmatch(r'(?:iter|epoch)_(\d+)', path.stem):
            found[int(match[1])] = path
    allow_training_checkpoints()
    for _, path in sorted(found.items(), reverse=True):
        try:
            load_checkpoint(path)
        except UserError as error:
            print(f'warning: {error}; an older one is taken', file=sys.stderr)
        else:
            return str(path)
    return None


def build_runner(cfg: Config, loaders: list[str]) -> Runner:
    """Check the data, make the config fit the machine and the host, and build the Runner.

    Args:
        cfg: Config of any of the three hosts; it is changed.
        loaders: Names of the data loaders that will run, e.g. ``['train_dataloader']``.

    Raises:
        UserError: If data of one of the loaders is not there.
    """
    for name in loaders:
        if not cfg.get(name):
            raise UserError(f'the config has no {name}')
        _check_data(cfg, name)
        if cfg.get('default_scope') == 'mmpretrain':
            # MMPretrain's own tool sets this; its models take batches that are stacked already.
            cfg[name].setdefault('collate_fn', dict(type='default_collate'))
    allow_training_checkpoints()
    write_files_whole()
    if cfg.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UserError(
            "--launcher 'pytorch' is for torchrun: use tools/dist_train.sh or dist_test.sh"
        )
    if cfg.launcher != 'none' and not torch.cuda.is_available():
        _start_cpu_processes(cfg)
    return GuardedRunner.from_cfg(cfg)


def _start_cpu_processes(cfg: Config) -> None:
    """Start a gloo process group here: mmengine's launcher would ask for a GPU."""
    if cfg.launcher == 'slurm':
        _read_slurm()
    elif cfg.launcher != 'pytorch':
        raise UserError(
            f"without a GPU --launcher must be 'pytorch' or 'slurm', got {cfg.launcher!r}"
        )
    if not is_distributed():
        torch.distributed.init_process_group('gloo')
    options = dict(
        broadcast_buffers=False, find_unused_parameters=cfg.get('find_unused_parameters', False)
    )
    options.update(cfg.get('model_wrapper_cfg') or {})
    cfg.model_wrapper_cfg = {**options, 'type': 'spm_mm.CPUDistributedDataParallel'}


def _read_slurm() -> None:
    """Turn what srun tells a task into what torch wants to know; see mmengine's ``init_dist``."""
    try:
        nodes = os.environ['SLURM_NODELIST']
        names = dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID')
        os.environ.update({name: os.environ[given] for name, given in names.items()})
    except KeyError as error:
        raise UserError(
            f"--launcher 'slurm' is for tasks of srun, and {error} is not set: use"
            ' tools/slurm_train.sh or slurm_test.sh'
        ) from error
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        call = ['scontrol', 'show', 'hostnames', nodes]
        hosts = subprocess.run(call, capture_output=True, text=True, check=True).stdout  # noqa: S603
        os.environ['MASTER_ADDR'] = hosts.split()[0]


def _check_data(cfg: Config, loader: str) -> None:
    for dataset in _datasets(cfg[loader].get('dataset')):
        root = dataset.get('data_root') or '.'
        if '://' in root or dataset.get('download') or dataset.get('type') in DOWNLOADED:
            continue
        prefix = dataset.get('data_prefix') or {}
        parts = [prefix] if isinstance(prefix, str) else prefix.values()
        paths = [
            Path(root),
            *(Path(root, part) for part in (*parts, dataset.get('ann_file')) if part),
        ]
        for path in paths:
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                continue
            state = 'is empty' if path.is_dir() else 'does not exist'
            raise UserError(
                f'{path} {state}, and {loader} of the config reads it: lay the data out as'
                f' docs/datasets.md says, which names the environment variable for another folder, or'
                f' set --cfg-options {loader}.dataset.data_root=DIR'
            )


def _datasets(cfg: Any) -> Iterator[ConfigDict]:
    """The datasets in a config, also inside wrappers such as RepeatDataset or ConcatDataset."""
    if not isinstance(cfg, dict):
        return
    inner = [cfg['dataset']] if 'dataset' in cfg else list(cfg.get('datasets', ()))
    for part in inner:
        yield from _datasets(part)
    if not inner:
        yield cfg
