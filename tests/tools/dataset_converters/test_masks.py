"""Index masks, and CamVid as its authors lay it out (drawn here: four frames of two classes)."""

import numpy as np
import pytest
from PIL import Image

from spm_mm.errors import UserError

CAMVID = {
    'Animal': (64, 128, 64), 'Archway': (192, 0, 128), 'Bicyclist': (0, 128, 192),
    'Bridge': (0, 128, 64), 'Building': (128, 0, 0), 'Car': (64, 0, 128),
    'CartLuggagePram': (64, 0, 192), 'Child': (192, 128, 64), 'Column_Pole': (192, 192, 128),
    'Fence': (64, 64, 128), 'LaneMkgsDriv': (128, 0, 192), 'LaneMkgsNonDriv': (192, 0, 64),
    'Misc_Text': (128, 128, 64), 'MotorcycleScooter': (192, 0, 192), 'OtherMoving': (128, 64, 64),
    'ParkingBlock': (64, 192, 128), 'Pedestrian': (64, 64, 0), 'Road': (128, 64, 128),
    'RoadShoulder': (128, 128, 192), 'Sidewalk': (0, 0, 192), 'SignSymbol': (192, 128, 128),
    'Sky': (128, 128, 128), 'SUVPickupTruck': (64, 128, 192), 'TrafficCone': (0, 0, 64),
    'TrafficLight': (0, 64, 64), 'Train': (192, 64, 128), 'Tree': (128, 128, 0),
    'Truck_Bus': (192, 128, 192), 'Tunnel': (64, 0, 64), 'VegetationMisc': (192, 192, 0),
    'Void': (0, 0, 0), 'Wall': (64, 192, 0),
}  # fmt: skip


@pytest.fixture
def colors(tmp_path):
    path = tmp_path / 'label_colors.txt'
    path.write_text(''.join(f'{r} {g} {b}\t\t{name}\n' for name, (r, g, b) in CAMVID.items()))
    return path


def save(array, path, mode=None, palette=None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array, mode)
    if palette:
        image.putpalette(palette)
    image.save(path)


def read(path) -> np.ndarray:
    return np.array(Image.open(path))


def test_colours_palettes_and_16_bits(converter, tmp_path) -> None:
    numbers = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    palette = np.random.default_rng(0).integers(0, 255, 768).tolist()
    save(numbers, tmp_path / 'in/a b/palette.png', palette=palette)
    save(numbers.astype(np.uint16), tmp_path / 'in/sechzehn ü.png')
    converter('index_masks', tmp_path / 'in', tmp_path / 'out')
    for name in ('a b/palette.png', 'sechzehn ü.png'):
        assert np.array_equal(read(tmp_path / 'out' / name), numbers)
        assert Image.open(tmp_path / 'out' / name).mode == 'L'
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    save(table[[[0, 1], [2, 0]]], tmp_path / 'rgb/c.png')
    (tmp_path / 'colors.txt').write_text('255 0 0 red apple\n0 0 0 Void\n0 255 0 tree\n')
    converter(
        'index_masks', tmp_path / 'rgb', tmp_path / 'named', '--colors', tmp_path / 'colors.txt'
    )
    assert read(tmp_path / 'named/c.png').tolist() == [[255, 0], [1, 255]]


def test_masks_that_do_not_fit(converter, tmp_path) -> None:
    save(np.zeros((2, 2, 3), np.uint8), tmp_path / 'rgb/c.png')
    with pytest.raises(UserError, match='is coloured: --colors FILE must say'):
        converter('index_masks', tmp_path / 'rgb', tmp_path / 'out')
    (tmp_path / 'colors.txt').write_text('255 0 0 red\n')
    colors = ('--colors', tmp_path / 'colors.txt')
    with pytest.raises(UserError, match=r'has the colour \(0, 0, 0\), which is no class'):
        converter('index_masks', tmp_path / 'rgb', tmp_path / 'out', *colors)
    save(np.full((2, 2), 300, np.uint16), tmp_path / 'deep/c.png')
    with pytest.raises(UserError, match='has the label 300: 0 to 255 are allowed'):
        converter('index_masks', tmp_path / 'deep', tmp_path / 'out')
    (tmp_path / 'deep/c.png').write_bytes(b'none')
    with pytest.raises(UserError, match=r'c\.png cannot be read'):
        converter('index_masks', tmp_path / 'deep', tmp_path / 'out')
    for line in ('1 2 red', '300 0 0 red', '1 1 1 a\n1 1 1 b'):
        (tmp_path / 'colors.txt').write_text(line)
        with pytest.raises(UserError, match=r'colors\.txt, line'):
            converter('index_masks', tmp_path / 'rgb', tmp_path / 'o', *colors)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['colors.txt', 'deep', 'rgb']


def test_camvid(converter, colors, tmp_path) -> None:
    names = ['0001TP_006690', '0006R0_f00930', '0016E5_07959', '0016E5_08010', 'Seq05VD_f00000']
    for name in names:
        labels = np.zeros((72, 96, 3), np.uint8)
        labels[:36] = CAMVID['Sky']
        labels[36:, :48] = CAMVID['LaneMkgsDriv']
        save(labels, tmp_path / f'LabeledApproved_full/{name}_L.png')
        save(labels[..., ::-1].copy(), tmp_path / f'701_StillsRaw_full/{name}.png')
    converter('camvid', tmp_path, tmp_path / 'out', '--size', 48, 36)
    found = sorted(
        p.relative_to(tmp_path / 'out').as_posix() for p in (tmp_path / 'out').rglob('*.png')
    )
    assert found == sorted(
        f'{kind}/{split}/{name}.png'
        for kind in ('annotations', 'images')
        for split, name in zip(('train', 'train', 'val', 'train', 'test'), names, strict=True)
    )
    mask = read(tmp_path / f'out/annotations/val/{names[2]}.png')
    assert mask.shape == (36, 48)
    assert (mask[0, 0], mask[30, 0], mask[30, 40]) == (0, 3, 255)
    assert read(tmp_path / f'out/images/val/{names[2]}.png').shape == (36, 48, 3)


def test_camvid_classes_are_those_of_the_config(load_tool, monkeypatch, root) -> None:
    from mmengine.config import Config

    monkeypatch.syspath_prepend(root / 'tools/dataset_converters')
    camvid = load_tool('tools/dataset_converters/camvid.py')
    cfg = Config.fromfile(root / 'configs/mmseg/_base_/datasets/camvid.py')
    assert tuple(camvid.CLASSES) == tuple(cfg.metainfo.classes)
    assert {name for names in camvid.CLASSES.values() for name in names} == CAMVID.keys() - {'Void'}


def test_camvid_mistakes(converter, colors, tmp_path) -> None:
    with pytest.raises(UserError, match=r'holds no \*_L\.png'):
        converter('camvid', tmp_path, tmp_path / 'out')
    save(np.zeros((4, 4, 3), np.uint8), tmp_path / 'LabeledApproved_full/mine_L.png')
    with pytest.raises(UserError, match='1 labels have no picture'):
        converter('camvid', tmp_path, tmp_path / 'out')
    save(np.zeros((4, 4, 3), np.uint8), tmp_path / '701_StillsRaw_full/mine.png')
    with pytest.raises(UserError, match='mine is no frame of CamVid: its split needs --lists'):
        converter('camvid', tmp_path, tmp_path / 'out')
    (tmp_path / 'lists').mkdir()
    (tmp_path / 'lists/val.txt').write_text(
        '/SegNet/CamVid/val/mine.png /SegNet/CamVid/valannot/mine.png\n'
    )
    converter('camvid', tmp_path, tmp_path / 'out', '--lists', tmp_path / 'lists')
    assert (tmp_path / 'out/images/val/mine.png').is_file()
    with pytest.raises(UserError, match='exists already'):
        converter('camvid', tmp_path, tmp_path / 'out', '--lists', tmp_path / 'lists')
    colors.write_text('0 0 0 Void\n')
    with pytest.raises(UserError, match='does not name Animal, Archway'):
        converter('camvid', tmp_path, tmp_path / 'other')
