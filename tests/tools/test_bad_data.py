"""Broken data in the hosts' own datasets: the file is named, in one sentence."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from spm_mm.engine.data_guard import GuardedPipeline, check_coco
from spm_mm.errors import UserError
from tests.tools.conftest import SMALL


@pytest.fixture
def own_scenes(scenes, tmp_path, monkeypatch) -> Path:
    """A copy that a test may break."""
    out = tmp_path / 'scenes'
    shutil.copytree(scenes, out)
    monkeypatch.setenv('SCENES_ROOT', str(out))
    return out


def guarded(root: Path, name: str, num_classes: int | None):
    """The training dataset of a config, as GuardedRunner leaves it."""
    cfg = Config.fromfile(root / 'configs' / f'{name}.py')
    init_default_scope(cfg.default_scope)
    registry = __import__(f'{cfg.default_scope}.registry', fromlist=['DATASETS'])
    dataset = registry.DATASETS.build(cfg.train_dataloader.dataset)
    dataset.pipeline = GuardedPipeline(dataset.pipeline, num_classes)
    return dataset


def test_segmentation(own_scenes, root) -> None:
    name = 'mmseg/fpn_pvt_tiny_scenes'
    assert guarded(root, name, 12)[0]['inputs'].shape == (3, 64, 96)
    with pytest.raises(UserError, match=r'gt_sem_seg of .*\.png has the label .*3 classes'):
        [*guarded(root, name, 3)]
    labels = next((own_scenes / 'ade/annotations/training').glob('*.png'))
    cv2.imwrite(str(labels), np.ones((32, 32), np.uint8))
    with pytest.raises(UserError, match=rf'{labels.name} has 32 x 32 pixels'):
        [*guarded(root, name, 12)]


@pytest.mark.parametrize(
    ('name', 'folder'),
    [
        ('mmdet/mask-rcnn_pvt_tiny_scenes', 'coco/train2017'),
        ('mmpretrain/pvt_tiny_scenes', 'imagenet/train'),
    ],
)
def test_undecodable_picture(own_scenes, root, name, folder) -> None:
    assert len([*guarded(root, name, 8)])
    picture = next((own_scenes / folder).rglob('*.jpg'))
    picture.unlink()  # it may be a link to the same picture of another layout
    picture.write_bytes(b'no picture')
    with pytest.raises(UserError, match=rf'{picture.name} cannot be prepared'):
        [*guarded(root, name, 8)]


def test_coco_file_without_annotations_of_a_class(own_scenes, root, monkeypatch) -> None:
    dataset = guarded(root, 'mmdet/mask-rcnn_pvt_tiny_scenes', None)
    file = own_scenes / 'coco/annotations/instances_train2017.json'
    content = json.loads(file.read_text())
    lost = next(c for c in content['categories'] if c['name'] == 'ball')['id']
    content['annotations'] = [a for a in content['annotations'] if a['category_id'] != lost]
    file.write_text(json.dumps(content))
    said = []
    monkeypatch.setattr('spm_mm.engine.data_guard.print_log', lambda line, *_: said.append(line))
    check_coco(dataset, required=True)
    assert 'instances_train2017.json has no annotation of' in said[0]
    assert "'ball'" in said[0]


def test_training_stops_with_one_sentence(own_scenes, run_tool, tmp_path) -> None:
    for picture in (own_scenes / 'ade/images/training').glob('*.jpg'):
        picture.unlink()
        picture.write_bytes(b'no picture')
    done = run_tool(
        'tools/train.py', 'configs/mmseg/fpn_pvt_tiny_scenes.py', '--work-dir', tmp_path / 'work',
        '--cfg-options', *SMALL, 'model.decode_head.num_classes=12', 'train_cfg.max_iters=2',
        SCENES_ROOT=str(own_scenes), status=2,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f'error: {own_scenes}')
    assert 'cannot be prepared' in last
    assert not [*(tmp_path / 'work').glob('*.pth')]
