"""The length of training: counting it, and making it fit a number of hours."""

import math
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from spm_mm.errors import UserError

__all__ = ['keep_checkpoints', 'scale_schedule', 'training_length', 'validations']

SCHEDULER_LENGTHS = ('begin', 'end', 'T_max', 'total_iters', 'total_steps', 'step_size', 'T_0')


def training_length(cfg: Config) -> tuple[int, bool]:
    """How long the config trains, and whether that is in epochs (else in iterations).

    Raises:
        UserError: If ``train_cfg`` says neither.
    """
    train_cfg = cfg.get('train_cfg') or {}
    if train_cfg.get('max_epochs') is not None:
        return train_cfg['max_epochs'], True
    if train_cfg.get('max_iters') is not None:
        return train_cfg['max_iters'], False
    raise UserError('train_cfg of the config has neither max_iters nor max_epochs')


def validations(cfg: Config) -> int:
    """How often the config validates while it trains, the end included."""
    length, _ = training_length(cfg)
    return math.ceil(length / (cfg.train_cfg.get('val_interval') or length))


def scale_schedule(cfg: Config, length: int) -> None:
    """Make the training ``length`` iterations or epochs long, whichever the config counts.

    The learning-rate schedule, the validations and the checkpoints are stretched alike.

    Args:
        cfg: Config of any of the three frameworks; it is changed.
        length: At least 1.
    """
    old, by_epoch = training_length(cfg)
    ratio = length / old

    def scaled(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [scaled(one) for one in value]
        return max(1, round(value * ratio)) if value else value

    cfg.train_cfg['max_epochs' if by_epoch else 'max_iters'] = length
    if cfg.train_cfg.get('val_interval'):
        cfg.train_cfg.val_interval = min(scaled(cfg.train_cfg.val_interval), length)
    for scheduler in _schedulers(cfg):
        if scheduler.get('by_epoch', True) != by_epoch:
            continue
        for key in (*SCHEDULER_LENGTHS, 'milestones'):
            if scheduler.get(key) is not None:
                scheduler[key] = scaled(scheduler[key])
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint')
    if checkpoint and checkpoint.get('interval') and checkpoint.get('by_epoch', True) == by_epoch:
        checkpoint.interval = scaled(checkpoint.interval)


def _schedulers(cfg: Config) -> Sequence[dict]:
    schedulers = cfg.get('param_scheduler') or []
    return [schedulers] if isinstance(schedulers, dict) else schedulers


def keep_checkpoints(cfg: Config) -> None:
    """Let the config write a checkpoint at least every tenth of the training, and keep the newest.

    So a cell that is killed loses little, and many cells do not fill the disk.
    """
    length, by_epoch = training_length(cfg)
    hooks = dict(cfg.get('default_hooks') or {})
    checkpoint = dict(hooks.get('checkpoint') or dict(type='CheckpointHook', by_epoch=by_epoch))
    if checkpoint.get('by_epoch', True) == by_epoch:
        tenth = math.ceil(length / 10)
        if not 0 < checkpoint.get('interval', -1) <= tenth:
            checkpoint['interval'] = tenth
    checkpoint.setdefault('max_keep_ckpts', 1)
    cfg.default_hooks = {**hooks, 'checkpoint': checkpoint}
