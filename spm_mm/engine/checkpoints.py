"""Which checkpoint a run starts from: read safely, whole, and the same one on every process."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast_object_list, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from spm_mm.compat import allow_training_checkpoints, load_checkpoint
from spm_mm.engine.machines import machine_of
from spm_mm.errors import UserError
from spm_mm.registry import HOOKS

__all__ = [
    'CheckpointReportHook',
    'latest_checkpoint',
    'read_checkpoints_safely',
    'settle_checkpoint',
]


def read_checkpoints_safely() -> None:
    """Let mmengine read local checkpoints by :func:`spm_mm.compat.load_checkpoint`.

    So ``load_from``, ``init_cfg`` and resuming take ``.safetensors`` and name a file that they cannot
    read. The config inside a training checkpoint is left out: mmengine would execute it on resuming.
    """

    def load_from_local(filename: str, map_location: Any = None) -> Mapping[str, Any]:
        checkpoint = load_checkpoint(filename, map_location)
        meta = checkpoint.get('meta')
        if isinstance(meta, dict):
            meta.pop('config', None)
        return checkpoint

    allow_training_checkpoints()
    CheckpointLoader.register_scheme('', load_from_local, force=True)


def latest_checkpoint(runner: Runner) -> str | None:
    """The checkpoint that a run of this work dir continues from, None if there is none.

    It is what mmengine's file ``last_checkpoint`` names. Where that file, or the checkpoint that it
    names, is missing or damaged (a run was killed meanwhile), it is the newest whole training
    checkpoint in the folders where this run writes, with a warning.

    Raises:
        UserError: If a checkpoint is named, and neither it nor another one can be read.
    """
    note = Path(runner.work_dir, 'last_checkpoint')
    named = note.read_text().strip() if note.is_file() else ''
    # A URL and a folder (of DeepSpeed) are mmengine's matter.
    if named and ('://' in named or Path(named).is_dir() or _read(Path(named), runner) is not None):
        return named
    folders = {Path(runner.work_dir)}
    if named:
        folders.add(Path(named).parent)
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.out_dir and '://' not in str(hook.out_dir):
            folders.add(Path(hook.out_dir, Path(runner.work_dir).name))
    files = [f for folder in folders for f in folder.glob('*.pth') if not f.match('best_*')]
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        if str(file) != named and 'message_hub' in (_read(file, runner) or ()):
            runner.logger.warning(
                f'{note} names {named or "nothing"}: the newest whole checkpoint is {file}'
            )
            return str(file)
    if named:
        raise UserError(
            f'{note} names {named}, and neither that nor another checkpoint of this run can be read:'
            f' mend that, or remove {note} to start anew'
        )
    return None


def _read(file: Path, runner: Runner) -> Mapping[str, Any] | None:
    """A checkpoint, None with a warning if it cannot be read to its end."""
    try:
        return load_checkpoint(file)
    except UserError as error:
        runner.logger.warning(str(error))
        return None


def settle_checkpoint(runner: Runner, otherwise: str | None = None) -> None:
    """Decide what a built Runner loads, alike on all processes. Call it before the Runner starts.

    The first process looks for the checkpoint of a run that resumes by itself; the others take its
    word, and must have the same file.

    Args:
        runner: It is changed: what it resumes from, or loads, is set.
        otherwise: Weights to start from if there is nothing to resume.

    Raises:
        UserError: If a process lacks the file, or has another one of that name.
    """
    if runner._resume and runner._load_from is None:
        found = [latest_checkpoint(runner) if get_rank() == 0 else None]
        broadcast_object_list(found)
        runner._load_from = found[0] or otherwise
        runner._resume = found[0] is not None
        if runner._resume:
            runner.logger.info(f'Resuming from the latest checkpoint {found[0]}.')
        else:
            runner.logger.warning(
                f'NOTHING TO RESUME: there is no training checkpoint in {runner.work_dir}. Training'
                f' starts from {otherwise or "scratch"}.'
            )
    if runner._load_from and get_world_size() > 1 and '://' not in str(runner._load_from):
        _check_same_file(Path(runner._load_from).expanduser())


def _check_same_file(file: Path) -> None:
    digest = None
    if file.is_file():
        sha256 = hashlib.sha256()
        with open(file, 'rb') as content:
            while block := content.read(2**24):
                sha256.update(block)
        digest = sha256.hexdigest()
    digests = all_gather_object(digest)
    for rank, other in enumerate(digests):
        if other is None or other != digests[0]:
            state = 'does not have' if other is None else 'has another file at'
            raise UserError(
                f'process {rank} on {machine_of(rank)} {state} {file}, from which process 0 on'
                f' {machine_of(0)} starts: copy it there, or use a disk that both machines share'
            )


@HOOKS.register_module(name=['CheckpointReportHook', 'CheckpointGuardHook'])  # as in 0.1.0
class CheckpointReportHook(Hook):
    """Says in one line how a checkpoint fits the model, and whether it holds numbers at all.

    mmengine loads what fits and lists the rest, so a test of the wrong file reports the figures of an
    untrained model. This changes nothing; ``tools/train.py`` and ``tools/test.py`` add it.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: Mapping[str, Any]) -> None:
        model: nn.Module = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        own = model.state_dict()
        weights = checkpoint.get('state_dict', checkpoint)
        shapes = {
            name.removeprefix('module.'): value.shape
            for name, value in weights.items()
            if isinstance(value, torch.Tensor)
        }
        fitting = sum(name in own and own[name].shape == shape for name, shape in shapes.items())
        source = runner._load_from or 'the checkpoint'
        if fitting < len(own) or fitting < len(shapes):
            runner.logger.warning(
                f'{source} fits {fitting} of the {len(own)} entries of this {type(model).__name__}, and'
                f' has {len(shapes) - fitting} others: is it the checkpoint of this config?'
            )
        broken = [name for name, value in weights.items() if not _is_finite(value)]
        if broken:
            runner.logger.warning(
                f'{source} holds NaN or infinity in {len(broken)} entries, first {broken[0]}'
            )


def _is_finite(value: Any) -> bool:
    numbers = isinstance(value, torch.Tensor) and value.is_floating_point()
    return not numbers or bool(torch.isfinite(value).all())
