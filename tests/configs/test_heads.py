"""Other detectors and segmentors of the frameworks: their configs, fit for an image of 64 pixels."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from spm_mm.weights import load_index
from tests.configs.loading import ROOT
from tests.configs.test_steps import build, detection_batch, segmentation_batch
from tests.test_frameworks import SIZES, train_and_predict

FILES = sorted((ROOT / 'configs').glob('*/heads/*.py'))


def test_all_are_here() -> None:
    assert {path.stem.split('_')[0] for path in FILES} == {
        'cascade-mask-rcnn', 'dino', 'mask2former', 'rtmdet'
    }  # fmt: skip


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_trains_and_predicts(path: Path) -> None:
    cfg = Config.fromfile(path)
    weights = cfg.model.backbone.pop('init_cfg')
    assert weights.checkpoint.removeprefix('spm_mm://') in load_index()
    preprocessor = cfg.model.data_preprocessor
    preprocessor.pop('batch_augments', None)  # which pad to 1024 x 1024
    if 'size' in preprocessor:
        preprocessor.size = (96, 96)
    if 'num_queries' in cfg.model:
        cfg.model.num_queries = 50  # of fewer than 900 places
    for part in (cfg.model, cfg.model.get('decode_head', {})):
        if 'num_points' in part.get('train_cfg', {}):
            part.train_cfg.num_points = 64
    model = build(cfg)
    if cfg.default_scope == 'mmseg':
        results = train_and_predict(model, segmentation_batch())
        assert [result.pred_sem_seg.data.shape[1:] for result in results] == SIZES
        return
    masks = path.stem.startswith(('cascade', 'mask2former'))
    results = train_and_predict(model, detection_batch(masks))
    for result in results:
        assert torch.isfinite(result.pred_instances.scores).all()
        assert ('masks' in result.pred_instances) == masks
