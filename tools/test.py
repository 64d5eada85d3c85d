"""Test a checkpoint on the test data of a config of MMDetection, MMSegmentation or MMPretrain.

Takes what the frameworks' own tools/test.py take. docs/guides/engine.md says what it adds.
"""

import argparse
from copy import deepcopy
from pathlib import Path

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import DumpResults

from spm_mm.engine import (
    FRAMEWORKS,
    add_arguments,
    build_runner,
    explained,
    framework_of,
    load_from,
    read_config,
    run_tool,
    settle_checkpoint,
)
from spm_mm.errors import UserError

# Test-time augmentation where a config does not say how: the image and its mirror image.
TTA_MODELS = {
    'mmdet': dict(
        type='DetTTAModel',
        tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
    ),
    'mmseg': dict(type='mmseg.SegTTAModel'),
    'mmpretrain': dict(type='mmpretrain.AverageClsScoreTTA'),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='dump all predictions to this .pkl file; for MMSegmentation also a folder, for the metric'
        ' to write to',
    )
    parser.add_argument(
        '--out-item',
        choices=('pred', 'metrics'),
        default='pred',
        help='what --out holds; metrics go into a .json, .yaml or .pkl file',
    )
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures of predictions there')
    parser.add_argument(
        '--interval', type=int, help='draw every so many pictures; default as config'
    )
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show shows one')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--amp', action='store_true', help='test with mixed precision')
    add_arguments(parser)
    return parser.parse_args()


def draw_predictions(cfg: Config, args: argparse.Namespace) -> None:
    """Turn the framework's visualization hook on; MMPretrain's has other names than the others'."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise UserError('--show and --show-dir need default_hooks.visualization in the config')
    if args.show:
        hook.update(show=True, wait_time=args.wait_time)
    if args.interval is not None:
        hook.interval = args.interval
    framework = framework_of(cfg)
    if framework == 'mmpretrain':
        hook.update(enable=True, out_dir=args.show_dir, interval=args.interval or 1)
        return
    hook.draw = True
    if framework == 'mmdet' and args.show_dir:
        hook.test_out_dir = str(Path(args.show_dir).resolve())
    elif args.show_dir:
        cfg.visualizer.save_dir = args.show_dir


def augment(cfg: Config) -> None:
    """Test the image and its augmented copies, and merge their predictions."""
    framework = framework_of(cfg)
    tta_model = cfg.get('tta_model') or TTA_MODELS.get(framework)
    if tta_model is None:
        raise UserError(f'--tta needs tta_model in the config of none of {", ".join(FRAMEWORKS)}')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    pipeline = cfg.get('tta_pipeline')
    if pipeline is None:
        *load, pack = deepcopy(dataset.pipeline)
        if framework == 'mmdet' and 'meta_keys' in pack:
            pack.meta_keys = tuple(dict.fromkeys((*pack.meta_keys, 'flip', 'flip_direction')))
        # The first copy's ground truth is the one that counts, so that copy is not mirrored.
        flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
        pipeline = [*load, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    dataset.pipeline = pipeline
    cfg.model = ConfigDict(**tta_model, module=cfg.model)


def dump_metric(cfg: Config, out: str) -> DumpResults | None:
    """The metric that dumps predictions to ``out``, None if MMSegmentation's own does it."""
    framework = framework_of(cfg)
    if Path(out).suffix in ('.pkl', '.pickle'):
        if framework == 'mmdet':
            from mmdet.evaluation import DumpDetResults

            return DumpDetResults(out_file_path=out)
        return DumpResults(out_file_path=out)
    if framework != 'mmseg' or Path(out).suffix:
        raise UserError(f'--out must end in .pkl or .pickle, got {out}')
    cfg.test_evaluator.update(output_dir=out, keep_results=True)
    return None


def main() -> None:
    args = parse_args()
    cfg = read_config(args)
    with explained(cfg, ('test_dataloader',)):
        predictions = args.out is not None and args.out_item == 'pred'
        dump = dump_metric(cfg, args.out) if predictions else None
        load_from(cfg, args.checkpoint)
        cfg.resume = False
        if args.show or args.show_dir is not None:
            draw_predictions(cfg, args)
        if args.amp:
            cfg.test_cfg.fp16 = True
        if args.tta:
            augment(cfg)
        runner = build_runner(cfg, args.compile)
        settle_checkpoint(runner)
        if dump is not None:
            runner.test_evaluator.metrics.append(dump)
        metrics = runner.test()
    if args.out is not None and args.out_item == 'metrics' and runner.rank == 0:
        mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    run_tool(main)
