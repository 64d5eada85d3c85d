"""Test a checkpoint on the test data of a config of MMDetection, MMSegmentation or MMPretrain."""

import argparse
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.evaluator import DumpResults

from spm_mm.engine import add_arguments, build_runner, load_from, read_config, run_tool
from spm_mm.errors import UserError

# Test-time augmentation where a config does not say how: the image and its mirror image.
TTA_MODELS = {
    'mmdet': dict(
        type='mmdet.DetTTAModel',
        tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
    ),
    'mmseg': dict(type='mmseg.SegTTAModel'),
    'mmpretrain': dict(type='mmpretrain.AverageClsScoreTTA'),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', metavar='FILE', help='dump all predictions to this .pkl file')
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures of predictions there')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_arguments(parser)
    return parser.parse_args()


def draw_predictions(cfg: Config, folder: str) -> None:
    """Turn the host's visualization hook on; its two spellings are MMPretrain's and the others'."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError('--show-dir needs default_hooks.visualization in the config')
    if cfg.get('default_scope') == 'mmpretrain':
        hook.update(enable=True, out_dir=folder, interval=1)
    elif cfg.get('default_scope') == 'mmdet':
        hook.update(draw=True, test_out_dir=str(Path(folder).resolve()))
    else:
        hook.update(draw=True, interval=1)
        cfg.visualizer.save_dir = folder


def augment(cfg: Config) -> None:
    """Test the image and its augmented copies, and merge their predictions."""
    scope = cfg.get('default_scope')
    if scope not in TTA_MODELS:
        raise UserError(f'--tta needs default_scope to be one of {[*TTA_MODELS]}, got {scope!r}')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    pipeline = cfg.get('tta_pipeline')
    if pipeline is None:
        *load, pack = deepcopy(dataset.pipeline)
        if scope == 'mmdet' and 'meta_keys' in pack:
            pack.meta_keys = tuple(dict.fromkeys((*pack.meta_keys, 'flip', 'flip_direction')))
        # The first copy's ground truth is the one that counts, so that copy is not mirrored.
        flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
        pipeline = [*load, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    dataset.pipeline = pipeline
    cfg.model = ConfigDict(**cfg.get('tta_model', TTA_MODELS[scope]), module=cfg.model)


def main() -> None:
    args = parse_args()
    cfg = read_config(args)
    if args.out is not None and Path(args.out).suffix not in ('.pkl', '.pickle'):
        raise UserError(f'--out must end in .pkl or .pickle, got {args.out}')
    load_from(cfg, args.checkpoint)
    if args.show_dir is not None:
        draw_predictions(cfg, args.show_dir)
    if args.tta:
        augment(cfg)
    runner = build_runner(cfg, ['test_dataloader'])
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    runner.test()


if __name__ == '__main__':
    run_tool(main)
