"""Every config, shrunk: a training step with an image without any object, and a prediction."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from spm_mm.backbones import loading
from spm_mm.registry import MODELS
from tests.configs.loading import OURS, ROOT, load
from tests.configs.shrink import shrink
from tests.test_frameworks import SIZES, images, train_and_predict

DENSE = [path for path in OURS if path.parent.name != 'mmpretrain']
VARIANTS = (
    'spm', 'hafa', 'dtm', 'ec', 'mlp', 'uniform', 'msa', 'paper', 'matched', 'tome', 'm1', 'm2', 'm4',
)  # fmt: skip
# What the dense form of a family has and its classifier lacks, by the beginnings of their names.
NEW_IN_DENSE: dict[str, tuple[str, ...]] = {
    'spm_mm.PVT': (),
    'spm_mm.LIT': tuple(f'norms.{i}.out.' for i in range(4)),
    'spm_mm.SwinTransformer': tuple(f'norms.{i}.' for i in range(3)),
}
# What the classifier has and the dense form leaves out on purpose.
DROPPED: dict[str, tuple[str, ...]] = {
    'spm_mm.PVT': (
        'norms.3.weight', 'norms.3.bias', 'stages.3.cls_token', 'stages.3.cls_position',
    ),
    'spm_mm.LIT': (
        'norms.3.weight', 'norms.3.bias', 'stages.3.cls_token', 'stages.3.cls_position',
    ),
}  # fmt: skip


def build(cfg: Config) -> torch.nn.Module:
    init_default_scope(cfg.default_scope)
    registry = importlib.import_module(f'{cfg.default_scope}.registry')
    return revert_sync_batchnorm(registry.MODELS.build(cfg.model))


def detection_batch(masks: bool) -> dict:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    samples = []
    for size, count in zip(SIZES, (1, 0), strict=True):
        sample = DetDataSample(metainfo=dict(
            img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), img_id=0, img_path='',
        ))  # fmt: skip
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[12.0, 10.0, 50.0, 40.0]])[:count],
            labels=torch.tensor([1])[:count],
        )
        if masks:
            mask = np.zeros((count, *size), np.uint8)
            mask[:, 10:40, 12:50] = 1
            sample.gt_instances.masks = BitmapMasks(mask, *size)
        samples.append(sample)
    return dict(inputs=images(), data_samples=samples)


def segmentation_batch() -> dict:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for size, label in zip(SIZES, (1, 255), strict=True):  # the second image: nothing to learn
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.full((1, *size), label))
        samples.append(sample)
    return dict(inputs=images(), data_samples=samples)


def classification_batch() -> dict:
    from mmpretrain.structures import DataSample

    inputs = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    inputs[1] = 0
    return dict(inputs=inputs, data_samples=[DataSample().set_gt_label(i) for i in range(2)])


@pytest.fixture(scope='module')
def stepped() -> set[str]:
    """Models that have made a step: configs that differ in the recipe alone share one."""
    return set()


@pytest.mark.parametrize('path', OURS, ids=lambda path: path.stem)
def test_trains_and_predicts(path: Path, stepped: set[str]) -> None:
    cfg = shrink(load(path))
    cfg.model.backbone.pop('drop_path_rate', None)
    key = json.dumps(cfg.model.to_dict(), sort_keys=True, default=str)
    if key in stepped:
        return
    model = build(cfg)
    framework = path.parent.name
    if framework == 'mmdet':
        results = train_and_predict(model, detection_batch(hasattr(model, 'roi_head')))
        assert all('bboxes' in result.pred_instances for result in results)
    elif framework == 'mmseg':
        results = train_and_predict(model, segmentation_batch())
        assert [result.pred_sem_seg.data.shape[1:] for result in results] == SIZES
    else:
        results = train_and_predict(model, classification_batch())
        scores = [result.pred_score for result in results]
        assert all(torch.isfinite(score).all() for score in scores)
        assert [score.sum().item() for score in scores] == pytest.approx([1, 1], abs=1e-5)
    stepped.add(key)


def pretrained_pairs() -> list:
    """Dense configs that take ImageNet weights, each with the config that makes them."""
    pairs = []
    for path in DENSE:
        _, family, size, last = path.stem.split('_', 3)
        variant = last.split('_')[0]
        names = [family, size, *([variant] if variant.startswith(VARIANTS) else []), 'in1k']
        source = ROOT / 'configs' / 'mmpretrain' / f'{"_".join(names)}.py'
        if 'init_cfg' in load(path).model.backbone:
            pairs.append(pytest.param(path, source, id=path.stem))
    return pairs


def classifier_of(path: Path, source: Path) -> nn.Module:
    """The classifier of a config, or that of the dense backbone where there is no such config."""
    if source.exists():
        return build(shrink(load(source)))
    backbone = {**shrink(load(path)).model.backbone, 'out_type': 'avg_featmap', 'init_cfg': None}
    return nn.ModuleDict({'backbone': revert_sync_batchnorm(MODELS.build(backbone))})


@pytest.mark.parametrize(('path', 'source'), pretrained_pairs())
def test_classifier_checkpoint_loads(path: Path, source: Path, tmp_path, monkeypatch) -> None:
    """Everything of the backbone comes from ImageNet but what is listed; what is dropped is logged."""
    classifier = classifier_of(path, source)
    checkpoint = tmp_path / 'classifier.pth'
    torch.save({'state_dict': classifier.state_dict(), 'meta': {}}, checkpoint)
    cfg = shrink(load(path))
    init_cfg = cfg.model.backbone.init_cfg
    assert (init_cfg.type, init_cfg.checkpoint, init_cfg.prefix) == (
        'Pretrained',
        None,
        'backbone.',
    )
    init_cfg.checkpoint = str(checkpoint)
    backbone = revert_sync_batchnorm(MODELS.build(cfg.model.backbone))
    said: list[str] = []
    monkeypatch.setattr(loading, 'print_log', lambda line, *_: said.append(line))
    backbone.init_weights()
    own, theirs = backbone.state_dict(), classifier.backbone.state_dict()
    new = NEW_IN_DENSE.get(cfg.model.backbone.type, ())
    assert [key for key in set(own) - set(theirs) if not key.startswith(new or ' ')] == []
    for key in own.keys() & theirs.keys():
        if own[key].shape == theirs[key].shape:
            assert torch.equal(own[key], theirs[key]), key
    dropped = set(theirs) - set(own)
    known = set(DROPPED.get(cfg.model.backbone.type, ()))
    # Only LIT-Ti of the LITs classifies by a class token; HAFA does not, and norms its dense tokens;
    # the matched models all classify by their average.
    if cfg.model.backbone.type == 'spm_mm.LIT' or any(
        k in path.stem for k in ('_hafa', '_tome', 'matched')
    ):
        known &= set(theirs) - set(own)
    assert dropped == known
    lines = [line for line in said if 'not used by this form of the model' in line]
    assert len(lines) == bool(dropped)
    assert all(key in lines[0] for key in dropped)
