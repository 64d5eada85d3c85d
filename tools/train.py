"""Train a model of MMDetection, MMSegmentation or MMPretrain from its config."""

import argparse

import torch
from mmengine.config import Config

from spm_mm.engine import (
    add_arguments,
    build_runner,
    latest_checkpoint,
    load_from,
    read_config,
    run_tool,
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
    parser.add_argument('--amp', action='store_true', help='train with mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size, from auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not validate while training')
    add_arguments(parser)
    return parser.parse_args()


def merge_arguments(cfg: Config, args: argparse.Namespace) -> None:
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        if not torch.cuda.is_available():
            raise UserError('--amp needs a GPU and there is none: leave it out')
        if cfg.optim_wrapper.type not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise UserError(
                "--amp needs optim_wrapper.type='OptimWrapper' in the config, got"
                f' {cfg.optim_wrapper.type!r}'
            )
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        cfg.auto_scale_lr.enable = True
    checkpoint = args.resume or (cfg.get('resume') and (cfg.get('load_from') or 'auto'))
    if checkpoint == 'auto':
        checkpoint = latest_checkpoint(cfg.work_dir)
    cfg.resume = bool(checkpoint)
    if checkpoint:
        load_from(cfg, checkpoint)
    elif cfg.get('load_from'):
        load_from(cfg, cfg.load_from, partial=True)
    cfg.custom_hooks = [
        *cfg.get('custom_hooks', []),
        dict(type='spm_mm.IterationSeedHook'),
        dict(type='spm_mm.LastValidationHook'),
    ]


def main() -> None:
    args = parse_args()
    cfg = read_config(args)
    merge_arguments(cfg, args)
    loaders = [name for name in ('train_dataloader', 'val_dataloader') if cfg.get(name)]
    build_runner(cfg, loaders).train()


if __name__ == '__main__':
    run_tool(main)
