import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from spm_mm.errors import UserError

COMPOSE = 'tools/dataset_converters/compose_scenes.py'


def test_same_seed_same_files(scenes: Path, run_tool, tmp_path) -> None:
    for seed, same in ((0, True), (1, False)):
        out = tmp_path / str(seed)
        run_tool(COMPOSE, out, '--train', 2, '--val', 1, '--size', 96, 64, '--seed', seed)
        for path in out.glob('ade/**/scene_*'):
            equal = path.read_bytes() == (scenes / path.relative_to(out)).read_bytes()
            assert equal == same, path


def test_masks_agree_between_the_layouts(scenes: Path) -> None:
    """Instances do not overlap, and together with the surfaces they are the label map."""
    coco = COCO(scenes / 'coco/annotations/instances_train2017.json')
    from mmseg.utils import ade_classes

    names = [name.strip() for name in ade_classes()]
    assert len(coco.getImgIds()) == 8
    annotated = 0
    for image in coco.loadImgs(coco.getImgIds()):
        assert (scenes / 'coco/train2017' / image['file_name']).is_file()
        label_path = scenes / 'ade/annotations/training' / image['file_name'].replace('jpg', 'png')
        labels = cv2.imread(str(label_path), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (image['height'], image['width']) == (64, 96)
        seen = np.zeros(labels.shape, int)
        for annotation in coco.loadAnns(coco.getAnnIds(image['id'])):
            mask = coco.annToMask(annotation).astype(bool)
            seen += mask
            name = coco.cats[annotation['category_id']]['name']
            assert (labels[mask] == names.index(name) + 1).all()
            assert annotation['area'] == mask.sum()
            assert annotation['bbox'] == coco_mask.toBbox(coco.annToRLE(annotation)).tolist()
            annotated += 1
        assert seen.max() <= 1
    assert annotated > 8


def test_imagenet_folders(scenes: Path) -> None:
    folders = {
        split: sorted(p.name for p in (scenes / 'imagenet' / split).iterdir())
        for split in ('train', 'val')
    }
    assert folders['train'] == folders['val']
    assert len(list((scenes / 'imagenet/train').glob('*/*.jpg'))) == 8


@pytest.fixture
def compose(load_tool):
    return load_tool(COMPOSE).compose_dataset


def test_cutouts(compose, tmp_path) -> None:
    (tmp_path / 'cut/bottle').mkdir(parents=True)
    picture = np.zeros((20, 10, 4), np.uint8)
    picture[2:18, 2:8] = (0, 0, 255, 255)
    cv2.imwrite(str(tmp_path / 'cut/bottle/one.png'), picture)
    call = dict(out=tmp_path / 'out', train=2, val=1, cutouts=tmp_path / 'cut')
    compose(**call)
    instances = json.loads((tmp_path / 'out/coco/annotations/instances_train2017.json').read_text())
    assert [c['name'] for c in instances['categories']] == ['bottle']
    (tmp_path / 'cut/bottle').rename(tmp_path / 'cut/botle')
    with pytest.raises(UserError, match="'botle' is no class of ADE20K; did you mean 'bottle'"):
        compose(**call)


def test_only_composed_scenes_are_replaced(compose, tmp_path) -> None:
    compose(tmp_path, 2, 1)
    scene = tmp_path / 'ade/images/training/scene_train_000001.jpg'
    with pytest.raises(UserError, match='exists already: --overwrite'):
        compose(tmp_path, 1, 1)
    real = tmp_path / 'coco/train2017/000001.jpg'
    real.touch()
    with pytest.raises(UserError, match='is no composed scene'):
        compose(tmp_path, 1, 1, overwrite=True)
    assert scene.exists()
    real.unlink()
    compose(tmp_path, 1, 1, overwrite=True)
    assert not scene.exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(size=(16, 64)), '--size must be at least 32 32, got 16 64'),
        (dict(objects=(4, 2)), '--objects must be 1 <= MIN <= MAX, got 4 2'),
        (dict(train=0), '--train and --val must be at least 1'),
        (dict(cutouts=Path('no')), 'is no folder'),
        (dict(seed=-1), '--seed must not be negative, got -1'),
    ],
)
def test_bad_arguments(compose, tmp_path, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose(**{'out': tmp_path / 'o', 'train': 1, 'val': 1, **arguments})
    assert not (tmp_path / 'o').exists()
