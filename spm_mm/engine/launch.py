"""What ``tools/train.py`` and ``tools/test.py`` share: from the command line to a Runner."""

import argparse
import datetime
import inspect
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from spm_mm.engine.atomic_files import write_files_whole
from spm_mm.engine.checkpoints import CheckpointReportHook, read_checkpoints_safely
from spm_mm.engine.compile import compile_parts
from spm_mm.engine.config_files import circle_of, explain_unread, in_a_circle
from spm_mm.engine.failures import explained, name_files
from spm_mm.engine.machines import note_machines
from spm_mm.engine.work_dir import check_config_is_kept
from spm_mm.errors import UserError

__all__ = [
    'FRAMEWORKS',
    'add_arguments',
    'add_config',
    'build_runner',
    'framework_of',
    'load_config',
    'load_from',
    'read_config',
]

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
FRAMEWORKS = ('mmdet', 'mmseg', 'mmpretrain')


class _Options(DictAction):
    """mmengine's ``--cfg-options``, of which a mistake ends in a line on how to use it."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        try:
            super().__call__(parser, *args, **kwargs)
        except Exception as error:
            parser.error(f'--cfg-options take KEY=VALUE, got {args[1]}: {error}')


def add_arguments(parser: argparse.ArgumentParser, launcher: bool = True) -> None:
    """Add the arguments that training and testing have in common.

    Args:
        parser: The tool's parser.
        launcher: Whether the tool can run as several processes.
    """
    parser.add_argument(
        '--work-dir', help='where logs and checkpoints go; default work_dirs/CONFIG'
    )
    parser.add_argument(
        '--no-pin-memory', action='store_true', help='turn pin_memory of the data loaders off'
    )
    parser.add_argument(
        '--compile',
        nargs='*',
        metavar='PART',
        help='compile these parts of the model, by default the backbone, by torch.compile',
    )
    _add_options(parser)
    if not launcher:
        parser.set_defaults(launcher='none', local_rank=0)
        return
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add what a tool needs that only looks at a config: :func:`load_config` reads it."""
    parser.add_argument('config', help='config file of any of the three frameworks')
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Options,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. model.backbone.arch=small key="[a,b]"',
    )


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and merge the overrides into it.

    Raises:
        UserError: If there is no such file, it cannot be read, or an override does not fit it.
    """
    if not Path(args.config).is_file():
        why = 'is a folder' if Path(args.config).is_dir() else 'does not exist'
        raise UserError(f'config {args.config} {why}')
    if circle := circle_of(args.config):
        raise UserError(in_a_circle(circle))
    try:
        cfg = Config.fromfile(args.config)
    except Exception as error:
        raise UserError(explain_unread(args.config, error)) from error
    if args.cfg_options is not None:
        try:
            cfg.merge_from_dict(args.cfg_options)
        except (
            AssertionError,
            AttributeError,
            IndexError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            raise UserError(
                f'--cfg-options {args.cfg_options} do not fit {args.config}: {_first_line(error)}'
            ) from error
    return cfg


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), '')


def read_config(args: argparse.Namespace) -> Config:
    """Read the config and merge what :func:`add_arguments` understands into it.

    Raises:
        UserError: If there is no such file, an override does not fit it, or the work dir is its folder.
    """
    local_rank = os.environ.get('SLURM_LOCALID') if args.launcher == 'slurm' else None
    os.environ.setdefault('LOCAL_RANK', local_rank or str(args.local_rank))
    cfg = load_config(args)
    with explained(cfg, ()):
        _merge_arguments(cfg, args)
        check_config_is_kept(cfg)
    return cfg


def _merge_arguments(cfg: Config, args: argparse.Namespace) -> None:
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name) is None:
            continue
        if framework_of(cfg) == 'mmpretrain':
            # As MMPretrain's own tools do; its models take batches that are stacked already.
            cfg[name].setdefault('pin_memory', True)
            cfg[name].setdefault('collate_fn', dict(type='default_collate'))
        if args.no_pin_memory:
            cfg[name].pin_memory = False


def framework_of(cfg: Config) -> str | None:
    """The framework whose model a config has; None if it is of none of :data:`FRAMEWORKS`."""
    if cfg.get('default_scope') in FRAMEWORKS:
        return cfg.default_scope
    model = cfg.get('model')
    kind = model.get('type') if isinstance(model, Mapping) else None
    classes = inspect.getmro(kind) if inspect.isclass(kind) else ()
    origins = {getattr(c, '__module__', '').partition('.')[0] for c in classes}
    if isinstance(kind, str):
        origins = {kind.partition('.')[0]}
    return next((name for name in FRAMEWORKS if name in origins), None)


def load_from(cfg: Config, checkpoint: str) -> None:
    """Let the Runner load a checkpoint.

    Args:
        cfg: Config of any of the three frameworks; it is changed.
        checkpoint: A file, or what else mmengine loads: ``https://...``, ``s3://...``.

    Raises:
        UserError: If there is no such file.
    """
    if '://' not in checkpoint and not Path(checkpoint).expanduser().is_file():
        raise UserError(f'checkpoint {checkpoint} does not exist')
    cfg.load_from = checkpoint


def build_runner(cfg: Config, compiled: list[str] | None = None) -> Runner:
    """Build the Runner of a config, as the frameworks' own tools do.

    What is added decides nothing: checkpoints are read by the safe loader and written whole, a sample
    that cannot be prepared is named, and the fit of a checkpoint is told.

    Args:
        cfg: Config of any of the three frameworks; it is changed where there is no GPU.
        compiled: Parts of the model to compile; an empty list is the backbone, None nothing.

    Raises:
        UserError: If the launcher did not start this process, or needs a GPU, or the model has no
            such part.
    """
    read_checkpoints_safely()
    write_files_whole()
    name_files()
    if cfg.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UserError(
            "--launcher 'pytorch' is for torchrun: use tools/dist_train.sh or dist_test.sh"
        )
    if cfg.launcher != 'none' and get_device() == 'cpu':
        _start_cpu_processes(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if compiled is not None:
        compile_parts(runner.model, compiled or ['backbone'])
    note_machines()
    runner.register_hook(CheckpointReportHook())
    return runner


def _start_cpu_processes(cfg: Config) -> None:
    """Start a gloo process group here: mmengine's launcher would ask for a GPU."""
    if cfg.launcher == 'slurm':
        _read_slurm()
    elif cfg.launcher != 'pytorch':
        raise UserError(
            f"without a GPU --launcher must be 'pytorch' or 'slurm', got {cfg.launcher!r}"
        )
    if not is_distributed():
        seconds = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout')
        timeout = None if seconds is None else datetime.timedelta(seconds=seconds)
        torch.distributed.init_process_group('gloo', timeout=timeout)
    options = dict(
        broadcast_buffers=False, find_unused_parameters=cfg.get('find_unused_parameters', False)
    )
    options.update(cfg.get('model_wrapper_cfg') or {})
    if options.get('type', 'MMDistributedDataParallel') == 'MMDistributedDataParallel':
        options['type'] = 'spm_mm.CPUDistributedDataParallel'
    cfg.model_wrapper_cfg = options


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
