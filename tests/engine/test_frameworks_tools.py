"""The frameworks' own tools and ours on the same configs: same losses, same weights, same files."""

import importlib.util
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from spm_mm.compat import allow_training_checkpoints, load_checkpoint
from spm_mm.engine import framework_of
from tests.engine.conftest import ROOT

ARCH = dict(
    embed_dims=(8, 16, 40, 64), depths=(1,) * 4, num_heads=(1, 2, 5, 8), mlp_ratios=(2,) * 4,
    sr_ratios=(8, 4, 2, 1),
)  # fmt: skip
RUNTIME = """
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False),
    logger=dict(type='LoggerHook', interval=1),
)
train_cfg = dict(by_epoch=False, max_iters=2, val_interval=100)
log_processor = dict(by_epoch=False)
randomness = dict(seed=3)
"""
CLASSIFIER = f"""
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='spm_mm.PVT', arch={ARCH}, out_type='avg_featmap', img_size=64),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=64),
)
data_preprocessor = dict(num_classes=2)
pipeline = [dict(type='LoadImageFromFile'), dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
dataset = dict(type='CustomDataset', data_root='ROOT/classes', pipeline=pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=True)
)
val_dataloader = test_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False)
)
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = dict(type='Accuracy')
{RUNTIME}
"""
SEGMENTOR = f"""
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64)),
    backbone=dict(type='spm_mm.PVT', arch={ARCH}, img_size=64),
    decode_head=dict(
        type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1, concat_input=False,
        num_classes=12,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset', data_root='ROOT/scenes', img_suffix='.png', pipeline=pipeline,
    data_prefix=dict(img_path='images', seg_map_path='maps'),
    metainfo=dict(classes=tuple('abcdefghijkl')),
)
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='InfiniteSampler', shuffle=True)
)
val_dataloader = test_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False)
)
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = dict(type='IoUMetric')
{RUNTIME}
"""
DETECTOR = f"""
default_scope = 'mmdet'
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(type='spm_mm.PVT', arch={ARCH}, img_size=64, out_indices=(1, 2, 3)),
    neck=dict(type='FPN', in_channels=[16, 40, 64], out_channels=8, num_outs=3),
    bbox_head=dict(
        type='RetinaHead', num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1,
                              ratios=[1.0], strides=[8, 16, 32]),
    ),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4,
                                 min_pos_iou=0, ignore_iof_thr=-1), allowed_border=-1, pos_weight=-1),
    test_cfg=dict(nms_pre=10, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=10),
)
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64)), dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs'),
]
dataset = dict(
    type='CocoDataset', data_root='ROOT/objects', ann_file='coco.json', data_prefix=dict(img='images/'),
    metainfo=dict(classes=('a', 'b')), pipeline=pipeline,
)
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=True)
)
val_dataloader = test_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dict(dataset, test_mode=True),
    sampler=dict(type='DefaultSampler', shuffle=False)
)
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = dict(
    type='CocoMetric', ann_file='ROOT/objects/coco.json', metric='bbox'
)
{RUNTIME}
"""
NEW_STYLE = f"""
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.runner import IterBasedTrainLoop
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs
from mmpretrain.models import ClsDataPreprocessor, ImageClassifier, LinearClsHead
from torch.optim import SGD

from spm_mm.backbones import PVT

default_scope = 'mmpretrain'
model = dict(
    type=ImageClassifier,
    backbone=dict(type=PVT, arch={ARCH}, out_type='avg_featmap', img_size=64),
    head=dict(type=LinearClsHead, num_classes=2, in_channels=64),
)
data_preprocessor = dict(type=ClsDataPreprocessor, num_classes=2)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(
        type=CustomDataset, data_root='ROOT/classes',
        pipeline=[dict(type=LoadImageFromFile), dict(type=PackInputs)],
    ),
    sampler=dict(type=DefaultSampler, shuffle=True),
)
optim_wrapper = dict(optimizer=dict(type=SGD, lr=0.01))
train_cfg = dict(type=IterBasedTrainLoop, max_iters=2)
default_hooks = dict(
    checkpoint=dict(type=CheckpointHook, interval=2, by_epoch=False),
    logger=dict(type=LoggerHook, interval=1),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=3)
"""
OWN_MODULE = """
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner import Runner
import torch


@HOOKS.register_module()
class NoiseHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        next(runner.model.parameters()).data += 0.01 * torch.randn(())


@RUNNERS.register_module()
class OwnRunner(Runner):
    def train(self):
        self.logger.info('my own runner')
        return super().train()
"""
NONE = ''.join(
    f'{key} = None\n'
    for key in (
        'val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator',
        'param_scheduler', 'custom_hooks', 'visualizer', 'auto_scale_lr', 'experiment_name',
        'load_from', 'work_dir', 'model_wrapper_cfg', 'tta_model',
    )
)  # fmt: skip
SCOPED = (
    CLASSIFIER.replace("default_scope = 'mmpretrain'", 'default_scope = None')
    .replace("type='ImageClassifier'", "type='mmpretrain.ImageClassifier'")
    .replace("type='LinearClsHead'", "type='mmpretrain.LinearClsHead'")
    .replace("type='CustomDataset'", "type='mmpretrain.CustomDataset'")
    .replace("type='PackInputs'", "type='mmpretrain.PackInputs'")
    .replace("type='Accuracy'", "type='mmpretrain.Accuracy'")
    .replace(
        'data_preprocessor = dict(',
        "data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', ",
    )
)
CONFIGS = {
    'classifier': ('mmpretrain', CLASSIFIER),
    'classifier by epochs': (
        'mmpretrain',
        CLASSIFIER
        + "train_cfg = dict(by_epoch=True, max_epochs=1)\nlog_processor = dict(by_epoch=True)\n"
        + "default_hooks['checkpoint'] = dict(type='CheckpointHook', interval=1, save_best='auto')\n",
    ),
    'classifier with mixup': (
        'mmpretrain',
        CLASSIFIER + "model['train_cfg'] = dict(augments=[dict(type='Mixup', alpha=0.8)])\n",
    ),
    'classifier with smoothed labels': (
        'mmpretrain',
        CLASSIFIER +
        "model['head']['loss'] = dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=2)\n",
    ),
    'no default scope': ('mmpretrain', SCOPED),
    'None wherever it may be': ('mmpretrain', CLASSIFIER + NONE),
    'default hooks None': (
        'mmpretrain', CLASSIFIER.replace('logger=dict(', 'timer=None, logger=dict(')
    ),
    'new style': ('mmpretrain', NEW_STYLE),
    'EMA and a hook of the user': (
        'mmpretrain',
        CLASSIFIER + "custom_imports = dict(imports=['own_module'])\n"
        "custom_hooks = [dict(type='NoiseHook'), dict(type='EMAHook', momentum=0.5)]\n",
    ),
    'runner of the user': (
        'mmpretrain',
        CLASSIFIER + "custom_imports = dict(imports=['own_module'])\nrunner_type = 'OwnRunner'\n",
    ),
    'repeated data, accumulated gradients': (
        'mmpretrain',
        CLASSIFIER
        + "train_dataloader['dataset'] = dict(type='RepeatDataset', times=3, dataset=dataset)\n"
        "optim_wrapper = dict(accumulative_counts=2, clip_grad=dict(max_norm=1.0),"
        " optimizer=dict(type='AdamW', lr=0.01))\n"
        "param_scheduler = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2)\n",
    ),
    'segmentor': ('mmseg', SEGMENTOR),
    'segmentor, workers': (
        'mmseg', SEGMENTOR + "train_dataloader.update(num_workers=1, persistent_workers=True)\n"
    ),
    'segmentor, another ignored label': (
        'mmseg',
        SEGMENTOR + "model['decode_head'].update(ignore_index=11)\ndataset.update(ignore_index=11)\n",
    ),
    'segmentor, one sigmoid channel': (
        'mmseg',
        SEGMENTOR + "model['decode_head'].update(num_classes=1,"
        " loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))\n"
        "dataset['data_prefix']['seg_map_path'] = 'binary'\n",
    ),
    'segmentor, two classes in one channel': (
        'mmseg',
        SEGMENTOR + "model['decode_head'].update(num_classes=2, out_channels=1, threshold=0.4,"
        " loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))\n"
        "dataset['data_prefix']['seg_map_path'] = 'binary'\n",
    ),
    'segmentor, other meta keys': (
        'mmseg', SEGMENTOR + "pipeline[-1]['meta_keys'] = ('ori_shape', 'img_shape')\n"
    ),
    'segmentor, concatenated data': (
        'mmseg',
        SEGMENTOR
        + "train_dataloader['dataset'] = dict(type='ConcatDataset', datasets=[dataset, dataset])\n",
    ),
    'detector': ('mmdet', DETECTOR),
    'detector, other meta keys': (
        'mmdet',
        DETECTOR
        + "pipeline[-1]['meta_keys'] = ('img_id', 'img_shape', 'ori_shape', 'scale_factor')\n",
    ),
    'detector, balanced classes, stock backbone': (
        'mmdet',
        DETECTOR + "train_dataloader['dataset'] = dict(type='ClassBalancedDataset', oversample_thr=0.9,"
        ' dataset=dataset)\n'
        "model['backbone'] = dict(type='ResNet', depth=18, base_channels=8, out_indices=(1, 2, 3))\n"
        "model['neck']['in_channels'] = [16, 32, 64]\n",
    ),
    'detector, no annotation in any picture': (
        'mmdet',
        DETECTOR
        + "dataset.update(ann_file='empty.json', filter_cfg=dict(filter_empty_gt=False))\n",
    ),
}  # fmt: skip


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """Random pictures of two classes, with label maps and boxes."""
    root = tmp_path_factory.mktemp('data')
    (root / 'own_module.py').write_text(OWN_MODULE)
    images, annotations = [], []
    for i in range(8):
        draw = np.random.default_rng(i)
        picture = draw.integers(0, 255, (64, 64, 3), np.uint8)
        for path, content in (
            (f'classes/{"ab"[i % 2]}/{i}.png', picture),
            (f'scenes/images/{i}.png', picture),
            (f'scenes/maps/{i}.png', draw.integers(0, 12, (64, 64), np.uint8)),
            (f'scenes/binary/{i}.png', draw.integers(0, 2, (64, 64), np.uint8)),
            (f'objects/images/{i}.png', picture),
        ):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / path), content)
        images.append(dict(id=i, file_name=f'{i}.png', height=64, width=64))
        box = dict(bbox=[8, 8, 30, 40], area=1200, iscrowd=0)
        annotations.append(dict(id=i + 1, image_id=i, category_id=i % 2, **box))
    coco = dict(images=images, categories=[dict(id=i, name='ab'[i]) for i in (0, 1)])
    for name, content in (('coco', annotations), ('empty', [])):
        (root / f'objects/{name}.json').write_text(json.dumps(dict(coco, annotations=content)))
    return root


def own_tool(framework: str, name: str) -> Path:
    path = Path(importlib.util.find_spec(framework).origin).parent / f'.mim/tools/{name}.py'
    if not path.is_file():
        pytest.skip(f'this {framework} comes without its tools')
    return path


def files(work_dir: Path) -> list[str]:
    """Names of all files, those of the time replaced; our lock is not a result."""
    names = (str(p.relative_to(work_dir)) for p in work_dir.rglob('*') if p.is_file())
    return sorted(re.sub(r'\d{8}_\d{6}', 'TIME', name) for name in names if name != '.lock')


def scalars(work_dir: Path) -> list[dict]:
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    return [
        {key: value for key, value in json.loads(line).items() if 'time' not in key}
        for line in log.read_text().splitlines()
    ]


def dumped(work_dir: Path) -> str:
    """The config that mmengine wrote, without what the frameworks' tools set or leave as it is."""
    text = (work_dir / 'config.py').read_text().replace(work_dir.name, '')
    return text.replace('resume = False\n', '').replace('load_from = None\n', '')


@pytest.fixture
def write(data, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(data))

    def write(text: str) -> Path:
        config = tmp_path / 'config.py'
        config.write_text(text.replace('ROOT', str(data)))
        return config

    return write


def assert_same(one: Path, other: Path, checkpoint: str) -> None:
    assert scalars(one) == scalars(other)
    assert files(one) == files(other)
    assert dumped(one) == dumped(other)
    weights = [load_checkpoint(folder / checkpoint)['state_dict'] for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key


@pytest.mark.parametrize('name', CONFIGS)
def test_train(run_here, write, tmp_path, name) -> None:
    framework, text = CONFIGS[name]
    config = write(text)
    # MMPretrain's tool wants persistent workers where there are none, and fails.
    options = ['--no-persistent-workers'] if framework == 'mmpretrain' else []
    theirs, ours = tmp_path / 'work_1', tmp_path / 'work_2'
    for tool, work_dir in ((own_tool(framework, 'train'), theirs), ('tools/train.py', ours)):
        ended = run_here(tool, config, '--work-dir', work_dir, *options)
        assert ended.status == 0, ended.err
    assert_same(theirs, ours, 'epoch_1.pth' if 'epochs' in name else 'iter_2.pth')


@pytest.mark.parametrize(
    ('framework', 'text'),
    [('mmpretrain', CLASSIFIER), ('mmseg', SEGMENTOR), ('mmdet', DETECTOR)],
    ids=['mmpretrain', 'mmseg', 'mmdet'],
)
def test_resume_and_test(run_here, write, tmp_path, framework, text) -> None:
    """Two more iterations, and the metrics of what came out."""
    allow_training_checkpoints()  # else the frameworks' tools cannot resume since torch 2.6
    config = write(text)
    options = ['--no-persistent-workers'] if framework == 'mmpretrain' else []
    theirs, ours = tmp_path / 'work_1', tmp_path / 'work_2'
    for tool, work_dir in ((own_tool(framework, 'train'), theirs), ('tools/train.py', ours)):
        assert run_here(tool, config, '--work-dir', work_dir, *options).status == 0
        for log in work_dir.glob('*/vis_data/scalars.json'):
            log.unlink()
        ended = run_here(
            tool, config, '--work-dir', work_dir, '--resume', *options, '--cfg-options',
            'train_cfg.max_iters=4',
        )  # fmt: skip
        assert ended.status == 0, ended.err
        assert 'resumed epoch: ' in ended.out
    assert_same(theirs, ours, 'iter_4.pth')
    found = []
    for tool, work_dir in ((own_tool(framework, 'test'), 'test_1'), ('tools/test.py', 'test_2')):
        out = tmp_path / f'{work_dir}.pkl'
        dump = [] if framework == 'mmseg' else ['--out', out]  # there it is a folder
        ended = run_here(
            tool, config, ours / 'iter_4.pth', '--work-dir', tmp_path / work_dir, *dump
        )
        assert ended.status == 0, ended.err
        (metrics,) = (tmp_path / work_dir).glob('*/*.json')
        numbers = json.loads(metrics.read_text().splitlines()[-1])
        found.append({key: value for key, value in numbers.items() if 'time' not in key})
        assert out.exists() or not dump
    assert found[0] == found[1]
    assert files(tmp_path / 'test_1') == files(tmp_path / 'test_2')


@pytest.mark.parametrize(
    ('framework', 'text', 'options'),
    [
        ('mmpretrain', CLASSIFIER, ['--out-item', 'metrics', '--out', 'OUT/metrics.json']),
        ('mmseg', SEGMENTOR, ['--out', 'OUT/maps', '--show-dir', 'OUT/shown', '--interval', '1']),
        ('mmdet', DETECTOR, ['--show-dir', 'OUT/shown', '--interval', '2']),
    ],
    ids=['mmpretrain', 'mmseg', 'mmdet'],
)
def test_augmented_and_drawn(run_here, write, tmp_path, framework, text, options) -> None:
    """By the defaults, with the options of each framework's own tool."""
    hook = {'mmpretrain': 'VisualizationHook', 'mmseg': 'SegVisualizationHook'}
    hook = dict(type=hook.get(framework, 'DetVisualizationHook'))
    visualizer = {'mmpretrain': 'Universal', 'mmseg': 'SegLocal', 'mmdet': 'DetLocal'}[framework]
    config = write(
        f"{text}default_hooks['visualization'] = {hook}\n"
        "vis_backends = [dict(type='LocalVisBackend')]\n"
        f"visualizer = dict(type='{visualizer}Visualizer', vis_backends=vis_backends)\n"
    )
    work_dir = tmp_path / 'work'
    assert run_here('tools/train.py', config, '--work-dir', work_dir, '--no-validate').status == 0
    call = (
        'tools/test.py',
        config,
        work_dir / 'iter_2.pth',
        '--work-dir',
        tmp_path / 'test',
        '--tta',
    )
    ended = run_here(*call, *(option.replace('OUT', str(tmp_path)) for option in options))
    assert ended.status == 0, ended.err
    if framework == 'mmpretrain':
        assert 'accuracy/top1' in json.loads((tmp_path / 'metrics.json').read_text())
    else:
        assert list((tmp_path / 'shown').rglob('*.png'))
    assert framework != 'mmseg' or len(list((tmp_path / 'maps').glob('*.png'))) == 8


def test_framework_of() -> None:
    from mmpretrain.models import ImageClassifier

    class Own(ImageClassifier):
        pass

    for model, scope, framework in (
        (dict(type='X'), 'mmseg', 'mmseg'),
        (dict(type='mmdet.RetinaNet'), None, 'mmdet'),
        (dict(type='mmdet.models.RetinaNet'), 'mmengine', 'mmdet'),
        (dict(type=Own), None, 'mmpretrain'),
        (dict(type='Toy'), 'mmengine', None),
        (None, None, None),
    ):
        assert framework_of(Config(dict(model=model, default_scope=scope))) == framework


@pytest.mark.slow
@pytest.mark.parametrize('framework', ['mmpretrain', 'mmdet'])
def test_in_processes_of_their_own(run_tool, write, tmp_path, data, framework) -> None:
    config = write({'mmpretrain': CLASSIFIER, 'mmdet': DETECTOR}[framework])
    options = ['--no-persistent-workers'] if framework == 'mmpretrain' else []
    theirs, ours = tmp_path / 'work_1', tmp_path / 'work_2'
    for tool, work_dir in ((own_tool(framework, 'train'), theirs), ('tools/train.py', ours)):
        run_tool(tool, config, '--work-dir', work_dir, *options, PYTHONPATH=f'{ROOT}:{data}')
    assert_same(theirs, ours, 'iter_2.pth')
