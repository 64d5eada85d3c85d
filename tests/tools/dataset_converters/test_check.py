import json
import shutil

import numpy as np
import pytest
from PIL import Image

from spm_mm.errors import UserError


@pytest.fixture
def own_scenes(scenes, tmp_path, monkeypatch):
    """A copy that a test may break."""
    out = tmp_path / 'szenen ü'
    shutil.copytree(scenes, out)
    monkeypatch.setenv('SCENES_ROOT', str(out))
    return out


@pytest.fixture
def check(converter, root, tmp_path):
    """Check the data of a config; the status, and problems and notes by split."""

    def call(config: str, *options: object) -> tuple[int, dict, dict]:
        with pytest.raises(SystemExit) as ended:
            converter('check', root / f'configs/{config}.py', tmp_path / 'out', *options)
        splits = json.loads((tmp_path / 'out/check.json').read_text())
        problems, notes = ({s['name']: s[kind] for s in splits} for kind in ('problems', 'notes'))
        return ended.value.code, problems, notes

    return call


def without_classes(problems: dict) -> dict:
    """A few scenes do not have all classes."""
    return {k: v for k, v in problems.items() if k != 'class without a sample'}


SEGMENTOR = 'mmseg/fpn_pvt_tiny_scenes'


def test_segmentation(own_scenes, check, tmp_path) -> None:
    for path in (own_scenes / 'ade/annotations').rglob('*.png'):
        mask = np.array(Image.open(path))
        mask[mask == 1] = 0  # no wall is left
        Image.fromarray(mask).save(path)
    status, problems, notes = check(SEGMENTOR, '--samples', 5)
    assert [without_classes(problems[name]) for name in ('train', 'val')] == [{}, {}]
    assert 'wall' in problems['train']['class without a sample']
    assert 'wall' in notes['val']['class without a sample']
    assert status == 1
    splits = json.loads((tmp_path / 'out/check.json').read_text())
    assert splits[0]['sizes'] == {'96x64': 8}
    labels = [np.array(Image.open(p)) for p in (own_scenes / 'ade/annotations/training').iterdir()]
    assert sum(splits[0]['amounts'].values()) == sum(np.count_nonzero(mask) for mask in labels)
    text = (tmp_path / 'out/check.md').read_text()
    assert '| train | 8 | 96 x 64: 8 |' in text
    width, height = Image.open(tmp_path / 'out/samples_val.jpg').size
    assert width > 3 * height  # four in a row


def test_broken_masks_and_pictures(own_scenes, check) -> None:
    folder = own_scenes / 'ade/annotations/training'
    paths = sorted(folder.iterdir())
    Image.fromarray(np.ones((32, 32), np.uint8)).save(paths[0])
    Image.fromarray(np.ones((64, 96, 3), np.uint8)).save(paths[1])
    Image.fromarray(np.full((64, 96), 300, np.uint16)).save(paths[2])
    Image.fromarray(np.full((64, 96), 200, np.uint8)).save(paths[3])
    paths[4].write_bytes(b'no picture')
    image = own_scenes / 'ade/images/training' / f'{paths[5].stem}.jpg'
    content = image.read_bytes()
    image.unlink()  # it has other names in the other layouts
    image.write_bytes(content[: len(content) // 2])
    first = next((own_scenes / 'ade/images/validation').iterdir())
    twin = own_scenes / 'ade/images/training' / f'{paths[6].stem}.jpg'
    twin.unlink()
    shutil.copy(first, twin)
    status, problems, _ = check(SEGMENTOR)
    assert status == 1
    found = without_classes(problems['train'])
    files = {what.split(':')[0]: entries for what, entries in found.items()}
    assert {what: len(entries) for what, entries in files.items()} == {
        'label picture of another size than its picture': 1,
        'label picture in colours': 1,
        'label above 255, which MMSegmentation would cut to 8 bits': 1,
        'label 199 for 12 classes': 1,
        'label picture that cannot be read': 1,
        'picture that cannot be read': 1,
    }
    assert paths[3].name in files['label 199 for 12 classes'][0]
    assert 'truncated' in files['picture that cannot be read'][0]
    assert twin.name in problems['val']['picture that is in train, too'][0]


def test_detection(own_scenes, check, tmp_path) -> None:
    """A category that the config does not have, and an object that MMDetection leaves out."""
    file = own_scenes / 'coco/annotations/instances_train2017.json'
    content = json.loads(file.read_text())
    content['categories'].append(dict(id=77, name='dragon'))
    first, second, third = content['annotations'][:3]
    first['category_id'] = 77
    second['bbox'] = [5, 5, 0.5, 9]
    third['bbox'] = [80, 5, 60, 9]
    content['images'][-1]['width'] = 95
    file.write_text(json.dumps(content))
    status, problems, _ = check('mmdet/mask-rcnn_pvt_tiny_scenes', '--samples', 2)
    assert status == 1
    found = problems['train']
    assert found['category that is none of the classes'] == ["'dragon' with 1 objects"]
    assert len(found['object of less than a pixel, which is left out']) == 1
    assert len(found['box outside of its picture']) == 1
    assert len(found['picture of another size than its annotation says']) == 1
    assert (tmp_path / 'out/samples_val.jpg').is_file()


def test_classification(own_scenes, check) -> None:
    """EXIF, depth and a picture that is there twice are noted."""
    folder = next(f for f in sorted((own_scenes / 'imagenet/train').iterdir()) if any(f.iterdir()))
    picture = next(folder.iterdir())
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(picture) as image:
        image.save(folder / 'turned.jpg', exif=exif)
    shutil.copy(picture, folder / 'twice.jpg')
    Image.fromarray(np.zeros((64, 96), np.uint16)).save(folder / 'deep.png')
    _, problems, notes = check('mmpretrain/pvt_tiny_scenes', '--samples', 2)
    assert without_classes(problems['train']) == {}
    assert 'turned.jpg' in notes['train']['picture that is turned by its EXIF tag'][0]
    assert len(notes['train']['picture that is there twice']) == 1
    (deep,) = notes['train']['picture of more than 8 bits, which the frameworks read as 8']
    assert 'deep.png' in deep


def test_the_model_has_other_classes(own_scenes, check) -> None:
    options = ('--samples', 0, '--cfg-options', 'model.decode_head.num_classes=3')
    _, problems, _ = check(SEGMENTOR, *options)
    assert problems['train']['the model has 3 classes, the data 12'] == ['the config']


def test_no_data(converter, root, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv('SCENES_ROOT', str(tmp_path / 'none'))
    config = root / 'configs/mmdet/mask-rcnn_pvt_tiny_scenes.py'
    with pytest.raises(UserError, match=r'train_dataloader\.dataset cannot be read'):
        converter('check', config, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
