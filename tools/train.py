"""Train a model of MMDetection, MMSegmentation or MMPretrain from its config.

Takes what the frameworks' own tools/train.py take. docs/guides/engine.md says what it adds.
"""

import argparse
import os

from mmengine.config import Config

from spm_mm.engine import (
    add_arguments,
    build_runner,
    explained,
    framework_of,
    load_from,
    lock_work_dir,
    read_config,
    run_tool,
    settle_checkpoint,
    use_mixed_precision,
)
from spm_mm.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from this checkpoint, or from the latest one in the work dir',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='',
        metavar='float16|bfloat16',
        help='train with mixed precision; on a CPU bfloat16 alone',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size, from auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not validate while training')
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='turn persistent_workers of the data loaders off',
    )
    add_arguments(parser)
    return parser.parse_args()


def merge_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Merge the arguments that only training has into the config."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name) is None:
            continue
        if framework_of(cfg) == 'mmpretrain' and cfg[name].get('num_workers'):
            cfg[name].setdefault('persistent_workers', True)
        if args.no_persistent_workers:
            cfg[name].persistent_workers = False
    if args.amp is not None:
        use_mixed_precision(cfg, args.amp or None)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise UserError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        cfg.auto_scale_lr.enable = True


def merge_resume(cfg: Config, resume: str | None) -> str | None:
    """Merge ``--resume`` into the config.

    Returns:
        Weights to start from where there is nothing to resume.
    """
    start_from = cfg.get('load_from')
    if resume == 'auto':
        cfg.resume, cfg.load_from = True, None
    elif resume is not None:
        load_from(cfg, resume)
        cfg.resume = True
    return start_from


def main() -> None:
    args = parse_args()
    cfg = read_config(args)
    with explained(cfg, ('train_dataloader', 'val_dataloader')):
        merge_arguments(cfg, args)
        start_from = merge_resume(cfg, args.resume)
        if os.environ.get('SLURM_PROCID' if args.launcher == 'slurm' else 'RANK', '0') == '0':
            lock_work_dir(cfg.work_dir)
        runner = build_runner(cfg, args.compile)
        settle_checkpoint(runner, start_from)
        runner.train()


if __name__ == '__main__':
    run_tool(main)
