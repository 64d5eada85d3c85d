import json

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from spm_mm.errors import UserError


@pytest.fixture
def convert(converter, tmp_path):
    """Convert IN and return what was written."""

    def call(kind: str, source: object, *more: object) -> dict:
        out = tmp_path / 'out.json'
        converter('to_coco', kind, source, out, '--images', tmp_path / 'images', *more)
        return json.loads(out.read_text(encoding='utf-8'))

    return call


def voc(tmp_path, name: str, filename: str, objects: str, size: str = '') -> None:
    path = tmp_path / 'xml' / f'{name}.xml'
    path.parent.mkdir(exist_ok=True)
    text = f'<annotation><filename>{filename}</filename>{size}{objects}</annotation>'
    path.write_text(text, encoding='utf-8')


def voc_object(label: str, *box: float, more: str = '') -> str:
    sides = ''.join(
        f'<{side}>{value}</{side}>'
        for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box, strict=True)
    )
    return f'<object><name>{label}</name>{more}<bndbox>{sides}</bndbox></object>'


def test_voc(convert, picture, tmp_path) -> None:
    """Pixels count from 1; names with spaces and umlauts; a picture that is named wrongly is found."""
    picture('erste Straße.jpg')
    picture('b.png')
    voc(tmp_path, 'a', 'erste Straße.jpg', voc_object('Käfer', 1, 1, 10, 20))
    difficult = '<difficult>1</difficult>'
    voc(tmp_path, 'b', 'somewhere else.jpg', voc_object('dog', 5, 5, 5.0, 9, more=difficult))
    content = convert('voc', tmp_path / 'xml')
    assert [c['name'] for c in content['categories']] == ['Käfer', 'dog']
    assert content['images'][0] == dict(id=0, file_name='erste Straße.jpg', width=40, height=20)
    first, second = content['annotations']
    assert first['bbox'] == [0, 0, 10, 20]
    assert (first['area'], first['iscrowd']) == (200, 0)
    assert second['bbox'] == [4, 4, 1, 5]
    assert (second['image_id'], second['iscrowd']) == (1, 1)
    assert len(COCO(tmp_path / 'out.json').getAnnIds()) == 2


def test_labelme(convert, picture, write_json, tmp_path, capsys) -> None:
    """Two points are a rectangle or a circle, or nothing that can be used."""
    picture('a.jpg')
    shapes = [
        dict(label='tree', shape_type='polygon', points=[[0, 0], [10, 0], [10, 10]]),
        dict(label='tree', shape_type='polygon', points=[[0, 0], [10, 0]]),
        dict(label='car', shape_type='rectangle', points=[[30, 15], [20, 5]]),
        dict(label='car', shape_type='circle', points=[[10, 10], [10, 15]]),
        dict(label='car', shape_type='line', points=[[1, 1], [5, 5]]),
    ]
    write_json('labels/a.json', dict(shapes=shapes, imagePath='..\\images\\a.jpg', imageWidth=40,
                                     imageHeight=20))  # fmt: skip
    content = convert('labelme', tmp_path / 'labels', '--classes', 'tree', 'car')
    boxes = [a['bbox'] for a in content['annotations']]
    assert boxes[:2] == [[0, 0, 10, 10], [20, 5, 10, 10]]
    assert np.allclose(boxes[2], [5, 5, 10, 10])
    assert [a['area'] for a in content['annotations'][:2]] == [50, 100]
    assert 77 < content['annotations'][2]['area'] < np.pi * 25
    said = capsys.readouterr().out
    assert 'left out: 1 x polygon of fewer than three points' in said
    assert 'left out: 1 x line or point' in said


def test_yolo(convert, picture, tmp_path) -> None:
    picture('a b.jpg')
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels/a b.txt').write_text(
        '1 0.5 0.5 0.5 1.0\n\n0 0.0 0.0 0.5 0.0 0.5 0.5\n', encoding='utf-8'
    )
    (tmp_path / 'data.yaml').write_text('names: {0: cat, 1: dog}\n')
    content = convert('yolo', tmp_path / 'labels', '--classes', tmp_path / 'data.yaml')
    dog, cat = content['annotations']
    assert (dog['category_id'], dog['bbox']) == (2, [10, 0, 20, 20])
    assert (cat['category_id'], cat['area']) == (1, 100)
    assert cat['segmentation'] == [[0, 0, 20, 0, 20, 10]]


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('2 0.5 0.5 0.5 1.0', r'line 1: class 2 is not among 0 to 1'),
        ('0 50 50 20 20', 'coordinates must be shares from 0 to 1'),
        ('0 0.5 0.5 0.5', 'expected 4 or an even number of coordinates'),
        ('cat 0.5 0.5 0.5 0.5', 'are no numbers'),
        ('0', 'coordinates must be shares'),
    ],
)
def test_yolo_mistakes(convert, picture, tmp_path, line: str, message: str) -> None:
    picture('a.jpg')
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels/a.txt').write_text(line)
    with pytest.raises(UserError, match=message):
        convert('yolo', tmp_path / 'labels', '--classes', 'cat', 'dog')
    assert not (tmp_path / 'out.json').exists()


@pytest.fixture
def coco_file(picture, write_json):
    """Numbers with gaps, a polygon of two points, both kinds of run lengths, and a box alone."""
    picture('ü/a.jpg')
    square = np.zeros((20, 40), np.uint8)
    square[5:10, 20:30] = 1
    packed = coco_mask.encode(np.asfortranarray(square))
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], square.ravel('F'), [2]]))))
    segmentations = [
        [[0, 0, 10, 0, 10, 10], [1, 1, 5, 5]],
        [[1, 1, 5, 5]],
        dict(size=[20, 40], counts=packed['counts'].decode()),
        dict(size=[20, 40], counts=runs.tolist()),
        [],
    ]
    annotations = [
        dict(
            id=100 + i,
            image_id=77,
            category_id=9,
            bbox=[1, 2, 3, 4],
            segmentation=s,
            iscrowd=i == 3,
        )
        for i, s in enumerate(segmentations)
    ]
    annotations[4]['category_id'] = 4
    return write_json(
        'old.json',
        dict(
            images=[dict(id=77, file_name='ü/a.jpg', width=40, height=20)],
            annotations=annotations,
            categories=[dict(id=9, name='tree'), dict(id=4, name='bus'), dict(id=90, name='none')],
        ),
    )


def test_coco(convert, coco_file, tmp_path) -> None:
    content = convert('coco', coco_file)
    assert content['categories'] == [dict(id=1, name='bus'), dict(id=2, name='tree')]
    polygons, packed, unpacked, box = content['annotations']
    assert polygons['segmentation'] == [[0, 0, 10, 0, 10, 10]]
    assert (polygons['id'], polygons['image_id'], polygons['category_id']) == (1, 0, 2)
    assert packed['segmentation'] == unpacked['segmentation']
    assert (packed['bbox'], packed['area']) == ([20, 5, 10, 5], 50)
    assert [a['iscrowd'] for a in content['annotations']] == [0, 0, 1, 0]
    assert box['bbox'] == [1, 2, 3, 4]
    assert 'segmentation' not in box
    coco = COCO(tmp_path / 'out.json')
    assert coco.annToMask(coco.loadAnns(3)[0]).sum() == 50


def test_masks(convert, coco_file, picture, tmp_path) -> None:
    content = json.loads(coco_file.read_text(encoding='utf-8'))
    with pytest.raises(UserError, match="'bus' has boxes alone"):
        convert('coco', coco_file, '--masks', tmp_path / 'masks')
    assert not (tmp_path / 'out.json').exists()
    del content['annotations'][4]
    coco_file.write_text(json.dumps(content))
    convert('coco', coco_file, '--classes', 'bus', 'tree', '--masks', tmp_path / 'masks')
    mask = np.array(Image.open(tmp_path / 'masks/ü/a.png'))
    assert mask.shape == (20, 40)
    assert mask[7, 25] == 2
    assert set(np.unique(mask)) == {0, 2}


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif(convert, picture, write_json, tmp_path, orientation: int) -> None:
    """A box drawn on the stored picture lies where the turned picture shows the same pixels."""
    path = picture('a.png', orientation=orientation)
    stored = np.zeros((20, 40, 3), np.uint8)
    stored[2:6, 10:30] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, exif=exif)
    shape = dict(label='car', shape_type='rectangle', points=[[10, 2], [30, 6]])
    write_json(
        'labels/a.json', dict(shapes=[shape], imagePath='a.png', imageWidth=40, imageHeight=20)
    )
    content = convert('labelme', tmp_path / 'labels')
    jpeg = path.with_suffix('.jpg')
    Image.fromarray(stored).save(jpeg, exif=exif, quality=100)
    shown = cv2.imread(str(jpeg))  # as the frameworks read it
    image = content['images'][0]
    assert (image['height'], image['width']) == shown.shape[:2]
    if orientation in (1, 5, 6, 7, 8):  # else the sizes do not say which way round it was drawn
        x, y, w, h = map(int, content['annotations'][0]['bbox'])
        inside = np.zeros(shown.shape[:2], bool)
        inside[y : y + h, x : x + w] = True
        assert np.array_equal(shown[..., 0] > 127, inside)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['images'][0].update(file_name='../a.jpg'), 'is not inside the folder'),
        (lambda c: c['images'][0].update(width=41), 'its mask has 40 x 20, its picture 41 x 20'),
        (lambda c: c['annotations'][0].update(category_id=8), 'annotation 100: its category_id'),
        (lambda c: c['annotations'][3]['segmentation']['counts'].append(1), 'are of 801 pixels'),
        (lambda c: c.pop('categories'), 'is no COCO file: it has no categories'),
    ],
)
def test_coco_mistakes(convert, coco_file, tmp_path, change, message: str) -> None:
    content = json.loads(coco_file.read_text(encoding='utf-8'))
    change(content)
    coco_file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        convert('coco', coco_file)
    assert not (tmp_path / 'out.json').exists()


def test_mistakes(convert, picture, write_json, tmp_path) -> None:
    voc(tmp_path, 'a', 'a.jpg', voc_object('cat', 1, 1, 9, 9))
    with pytest.raises(UserError, match=r"its picture 'a\.jpg' is not in"):
        convert('voc', tmp_path / 'xml')
    picture('a.jpg')
    with pytest.raises(UserError, match="--classes does not name 'cat'"):
        convert('voc', tmp_path / 'xml', '--classes', 'dog', 'cow')
    voc(tmp_path, 'a', 'a.jpg', voc_object('cat', 1, 1, 9, 9),
        '<size><width>99</width><height>20</height></size>')  # fmt: skip
    with pytest.raises(UserError, match='has 40 x 20 pixels, its annotation is of 99 x 20'):
        convert('voc', tmp_path / 'xml')
    with pytest.raises(UserError, match='yolo needs --classes'):
        convert('yolo', tmp_path / 'xml')
    with pytest.raises(UserError, match=r'holds no \*\.json'):
        convert('labelme', tmp_path / 'xml')
    write_json('out.json', {})
    with pytest.raises(UserError, match=r'out\.json exists already'):
        convert('voc', tmp_path / 'xml')
