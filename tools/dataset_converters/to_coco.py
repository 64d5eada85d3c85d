"""Convert VOC XML, LabelMe, YOLO or COCO json to what the configs read: one COCO json, or index masks.

    python tools/dataset_converters/to_coco.py voc Annotations train.json --images JPEGImages
    python tools/dataset_converters/to_coco.py labelme labels train.json --images labels
    python tools/dataset_converters/to_coco.py yolo labels/train train.json --images images/train \\
        --classes data.yaml
    python tools/dataset_converters/to_coco.py coco old.json train.json --images train2017

One call converts one split. Categories get the numbers 1 to N in the order of --classes, else of
their names; give every split the same. Pictures keep their names, and are measured: sizes and
coordinates are those of the picture as the frameworks read it, turned by its EXIF tag. What cannot be
used (a polygon of two points, a box without area) is left out and counted. --masks DIR also writes
masks for MMSegmentation: 0 is background, 1 to N are the classes.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import yaml
from index_masks import whole_folder
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask
from rich.progress import track

from spm_mm.engine import run_tool
from spm_mm.errors import UserError

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
CIRCLE_POINTS = 32
ORIENTATION = 0x0112
# Where a point (x, y) of a picture of W x H lies when the picture is turned by its EXIF orientation.
TURNS: dict[int, Callable] = {
    1: lambda x, y, w, h: (x, y),
    2: lambda x, y, w, h: (w - x, y),
    3: lambda x, y, w, h: (w - x, h - y),
    4: lambda x, y, w, h: (x, h - y),
    5: lambda x, y, w, h: (y, x),
    6: lambda x, y, w, h: (h - y, x),
    7: lambda x, y, w, h: (h - y, w - x),
    8: lambda x, y, w, h: (y, w - x),
}


@dataclass
class Item:
    """An object: a box (x, y, width, height) in pixels, and polygons or a run-length encoded mask."""

    label: str
    box: tuple[float, float, float, float] | None = None
    polygons: list[list[float]] = field(default_factory=list)
    rle: dict[str, Any] | None = None
    crowd: bool = False


@dataclass
class Annotated:
    """A picture's file name, its objects, and the size (width, height) that the annotation states."""

    name: str
    items: list[Item]
    size: tuple[int, int] | None = None


# Reading


def read_voc(folder: Path, images: Path, classes: Sequence[str] | None) -> Iterator[Annotated]:
    """Boxes of VOC's XML files; its pixels count from 1, both ends included."""
    for path in _files(folder, '.xml'):
        try:
            root = ElementTree.parse(path).getroot()  # noqa: S314 (expat limits entities)
        except ElementTree.ParseError as error:
            raise UserError(f'{path} is no XML: {error}') from error
        items = []
        for part in root.iter('object'):
            box = part.find('bndbox')
            try:
                sides = [float(box.findtext(side)) for side in ('xmin', 'ymin', 'xmax', 'ymax')]
            except (AttributeError, TypeError, ValueError) as error:
                raise UserError(f'{path}: an object has no whole <bndbox>') from error
            left, top, right, bottom = sides
            items.append(
                Item(
                    (part.findtext('name') or '').strip(),
                    (left - 1, top - 1, right - left + 1, bottom - top + 1),
                    crowd=part.findtext('difficult', '0').strip() == '1',
                )
            )
        size = tuple(int(float(root.findtext(f'size/{side}') or 0)) for side in ('width', 'height'))
        named = root.findtext('filename') or ''
        yield Annotated(_picture_of(path, images, named), items, size if all(size) else None)


def read_labelme(folder: Path, images: Path, classes: Sequence[str] | None) -> Iterator[Annotated]:
    """Polygons, rectangles and circles of LabelMe's files; lines and points have no area."""
    for path in _files(folder, '.json'):
        content = _read_json(path)
        if not isinstance(content, dict) or 'shapes' not in content:
            raise UserError(f'{path} is no file of LabelMe: it has no "shapes"')
        items = [
            Item(str(shape['label']), polygons=_labelme_polygon(shape))
            for shape in content['shapes']
        ]
        size = content.get('imageWidth'), content.get('imageHeight')
        named = str(content.get('imagePath') or '').replace('\\', '/').rpartition('/')[2]
        yield Annotated(_picture_of(path, images, named), items, size if all(size) else None)


def _labelme_polygon(shape: dict[str, Any]) -> list[list[float]]:
    points = [tuple(map(float, point)) for point in shape['points']]
    kind = shape.get('shape_type') or 'polygon'
    if kind == 'rectangle' and len(points) == 2:
        (left, top), (right, bottom) = points
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    elif kind == 'circle' and len(points) == 2:
        (x, y), edge = points
        radius = float(np.hypot(edge[0] - x, edge[1] - y))
        turns = np.linspace(0, 2 * np.pi, CIRCLE_POINTS, endpoint=False)
        points = [(x + radius * np.cos(turn), y + radius * np.sin(turn)) for turn in turns]
    elif kind != 'polygon':
        return []
    return [[float(value) for point in points for value in point]]


def read_yolo(folder: Path, images: Path, classes: Sequence[str] | None) -> Iterator[Annotated]:
    """Boxes or polygons of YOLO's text files, in shares of the picture as it is shown."""
    if not classes:
        raise UserError('yolo needs --classes: its files hold numbers alone')
    for path in _files(folder, '.txt'):
        if path.name == 'classes.txt':
            continue
        name = _picture_of(path, images, '')
        width, height = picture_size(images / name)
        items = []
        for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
            if not line.strip():
                continue
            where = f'{path}, line {number}'
            try:
                first, *values = map(float, line.split())
            except ValueError as error:
                raise UserError(f'{where}: {line!r} are no numbers') from error
            if not 0 <= first < len(classes) or first % 1:
                raise UserError(f'{where}: class {first:g} is not among 0 to {len(classes) - 1}')
            if min(values, default=-1) < -1e-3 or max(values) > 1 + 1e-3:
                raise UserError(f'{where}: coordinates must be shares from 0 to 1, got {line!r}')
            label = classes[int(first)]
            if len(values) == 4:
                x, y, w, h = values
                box = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
                items.append(Item(label, box))
            elif len(values) % 2 == 0:
                scale = np.tile((width, height), len(values) // 2)
                items.append(Item(label, polygons=[(np.array(values) * scale).tolist()]))
            else:
                raise UserError(
                    f'{where}: expected 4 or an even number of coordinates, got {line!r}'
                )
        yield Annotated(name, items)


def read_coco(path: Path, images: Path, classes: Sequence[str] | None) -> Iterator[Annotated]:
    """COCO's json with any numbers for pictures and categories, and every kind of segmentation."""
    content = _read_json(path)
    missing = [key for key in ('images', 'annotations', 'categories') if key not in content]
    if missing:
        raise UserError(f'{path} is no COCO file: it has no {", ".join(missing)}')
    names = {category['id']: str(category['name']) for category in content['categories']}
    found: dict[Any, list[Item]] = {image['id']: [] for image in content['images']}
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    for annotation in content['annotations']:
        what = f'{path}, annotation {annotation.get("id")}'
        if annotation['category_id'] not in names or annotation['image_id'] not in found:
            raise UserError(f'{what}: its category_id or image_id is not in the file')
        item = Item(names[annotation['category_id']], crowd=bool(annotation.get('iscrowd')))
        if annotation.get('bbox'):
            item.box = tuple(map(float, annotation['bbox']))
        segmentation = annotation.get('segmentation') or []
        if isinstance(segmentation, dict):
            item.rle = _rle(segmentation, sizes[annotation['image_id']], what)
        else:
            item.polygons = [list(map(float, polygon)) for polygon in segmentation]
            if item.polygons:
                item.box = None  # what is left of the polygons decides
        found[annotation['image_id']].append(item)
    for image in content['images']:
        name = Path(str(image['file_name']))
        if name.is_absolute() or '..' in name.parts:
            raise UserError(f'{path}: file_name {image["file_name"]!r} is not inside the folder')
        yield Annotated(str(image['file_name']), found[image['id']], sizes[image['id']])


def _rle(segmentation: dict[str, Any], size: tuple[int, int], what: str) -> dict[str, Any]:
    """A run-length encoding with its counts as text, as the file is to hold it."""
    counts, (height, width) = segmentation['counts'], segmentation['size']
    if (width, height) != tuple(size):
        raise UserError(
            f'{what}: its mask has {width} x {height}, its picture {size[0]} x {size[1]}'
        )
    if isinstance(counts, list):
        if sum(counts) != height * width:
            raise UserError(f'{what}: its counts are of {sum(counts)} pixels, not {height * width}')
        counts = coco_mask.frPyObjects(segmentation, height, width)['counts'].decode()
    return {'size': [height, width], 'counts': counts}


READERS = {'voc': read_voc, 'labelme': read_labelme, 'yolo': read_yolo, 'coco': read_coco}


def _files(folder: Path, suffix: str) -> list[Path]:
    files = sorted(path for path in folder.rglob('*') if path.suffix.lower() == suffix)
    if not files:
        raise UserError(f'{folder} holds no *{suffix}')
    return files


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise UserError(f'{path} does not exist') from error
    except ValueError as error:
        raise UserError(f'{path} is no JSON: {error}') from error


def _picture_of(annotation: Path, images: Path, named: str) -> str:
    """The picture that an annotation file names, or one that is called like it."""
    names = [named, *(f'{annotation.stem}{suffix}' for suffix in PICTURES)]
    names += [name.upper() for name in (f'{annotation.stem}{suffix}' for suffix in PICTURES)]
    for name in names:
        if name and (images / name).is_file():
            return name
    raise UserError(f'{annotation}: its picture {named or annotation.stem!r} is not in {images}')


def read_classes(words: Sequence[str] | None) -> list[str] | None:
    """Class names of --classes: the names, a text file with one a line, or YOLO's data.yaml."""
    if not words:
        return None
    path = Path(words[0])
    if len(words) > 1 or not path.suffix:
        return list(words)
    if not path.is_file():
        raise UserError(f'--classes {path} does not exist')
    text = path.read_text(encoding='utf-8')
    if path.suffix not in ('.yaml', '.yml'):
        return [line.strip() for line in text.splitlines() if line.strip()]
    names = (yaml.safe_load(text) or {}).get('names')
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names)]
    if not names:
        raise UserError(f'--classes {path} has no "names"')
    return [str(name) for name in names]


# Pictures


def open_picture(path: Path) -> tuple[tuple[int, int], int]:
    """Width and height as stored, and the EXIF orientation (1 without one).

    Raises:
        UserError: If the picture cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return picture.size, picture.getexif().get(ORIENTATION, 1)
    except FileNotFoundError as error:
        raise UserError(f'{path} does not exist') from error
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f'{path} cannot be read: {error}') from error


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as the frameworks read it."""
    (width, height), orientation = open_picture(path)
    return (height, width) if orientation >= 5 else (width, height)


def turn(annotated: Annotated, path: Path) -> None:
    """Check the stated size, and turn the objects if they are those of the picture without EXIF.

    Raises:
        UserError: If the stated size is neither that of the file nor that of the turned picture.
    """
    stored, orientation = open_picture(path)
    shown = picture_size(path)
    if annotated.size is None or tuple(annotated.size) == shown:
        return
    if tuple(annotated.size) != stored:
        raise UserError(
            f'{path} has {shown[0]} x {shown[1]} pixels, its annotation is of'
            f' {annotated.size[0]} x {annotated.size[1]}'
        )
    turned = TURNS[orientation]
    for item in annotated.items:
        if item.rle is not None:
            raise UserError(
                f'{path} is turned by EXIF, and a mask of it is not: turn the picture first'
            )
        item.polygons = [
            [v for x, y in zip(p[::2], p[1::2], strict=True) for v in turned(x, y, *stored)]
            for p in item.polygons
        ]
        if item.box is not None:
            x, y, w, h = item.box
            ends = [turned(*point, *stored) for point in ((x, y), (x + w, y + h))]
            (left, right), (top, bottom) = map(sorted, zip(*ends, strict=True))
            item.box = (left, top, right - left, bottom - top)


# Writing


def clean(item: Item, size: tuple[int, int]) -> str | None:
    """Cut an object to its picture; why it cannot be used, or None."""
    if item.rle is not None:
        item.box = tuple(map(float, coco_mask.toBbox(item.rle)))
    elif item.polygons:
        item.polygons = [
            _clipped(p, size) for p in item.polygons if len(p) >= 6 and len(p) % 2 == 0
        ]
        item.polygons = [p for p in item.polygons if _area(p) > 0]
        if not item.polygons:
            return 'polygon of fewer than three points or without area'
        points = np.concatenate([np.reshape(p, (-1, 2)) for p in item.polygons])
        (left, top), (right, bottom) = points.min(0), points.max(0)
        item.box = (left, top, right - left, bottom - top)
    elif item.box is None:
        return 'line or point'
    else:
        left, top, right, bottom = (
            min(max(value, 0.0), float(size[i % 2]))
            for i, value in enumerate(
                (item.box[0], item.box[1], item.box[0] + item.box[2], item.box[1] + item.box[3])
            )
        )
        item.box = (left, top, right - left, bottom - top)
    return None if item.box[2] > 0 and item.box[3] > 0 else 'box without area in its picture'


def _clipped(polygon: Sequence[float], size: tuple[int, int]) -> list[float]:
    return np.clip(np.reshape(polygon, (-1, 2)), 0, size).ravel().tolist()


def _area(polygon: Sequence[float]) -> float:
    return float(cv2.contourArea(np.reshape(polygon, (-1, 1, 2)).astype(np.float32)))


def area_of(item: Item) -> float:
    if item.rle is not None:
        return float(coco_mask.area(item.rle))
    return sum(map(_area, item.polygons)) or float(item.box[2] * item.box[3])


def draw_mask(items: Sequence[Item], classes: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    """Classes 1 to N (H, W) over background 0; smaller objects lie on larger ones."""
    canvas = np.zeros((size[1], size[0]), np.uint8)
    for item in sorted(items, key=area_of, reverse=True):
        number = classes.index(item.label) + 1
        if item.rle is not None:
            canvas[coco_mask.decode(item.rle).astype(bool)] = number
        for polygon in item.polygons:
            points = np.round(np.reshape(polygon, (-1, 1, 2))).astype(np.int32)
            cv2.fillPoly(canvas, [points], number)
    return canvas


def coco_content(
    pictures: Sequence[Annotated], sizes: Sequence[tuple[int, int]], classes: Sequence[str]
) -> dict[str, Any]:
    """The file: pictures from 0, annotations and categories from 1."""
    images, annotations = [], []
    for number, (annotated, (width, height)) in enumerate(zip(pictures, sizes, strict=True)):
        images.append(dict(id=number, file_name=annotated.name, width=width, height=height))
        for item in annotated.items:
            annotation = dict(
                id=len(annotations) + 1,
                image_id=number,
                category_id=classes.index(item.label) + 1,
                bbox=[float(round(side, 3)) for side in item.box],
                area=round(area_of(item), 3),
                iscrowd=int(item.crowd),
            )
            if item.rle is not None or item.polygons:
                annotation['segmentation'] = item.rle or item.polygons
            annotations.append(annotation)
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, 1)]
    return dict(images=images, annotations=annotations, categories=categories)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('format', choices=READERS, help='of the annotations')
    parser.add_argument(
        'input', metavar='IN', type=Path, help='folder of annotations, or COCO file'
    )
    parser.add_argument('output', metavar='OUT', type=Path, help='COCO file to write (.json)')
    parser.add_argument('--images', type=Path, required=True, help='folder of the pictures')
    parser.add_argument('--classes', nargs='+', help='names, a file with one a line, or data.yaml')
    parser.add_argument('--masks', type=Path, metavar='DIR', help='folder for index masks')
    args = parser.parse_args(argv)
    if args.output.suffix != '.json':
        raise UserError(f'OUT must end in .json, got {args.output}')
    for path in (args.output, args.masks):
        if path is not None and path.exists():
            raise UserError(f'{path} exists already: name another, or remove it')
    classes = read_classes(args.classes)
    pictures = list(READERS[args.format](args.input, args.images, classes))
    found = sorted({item.label for annotated in pictures for item in annotated.items})
    classes = classes or found
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise UserError(f'--classes does not name {", ".join(map(repr, unknown))}')
    if args.masks is not None and len(classes) > 254:
        raise UserError(f'--masks holds at most 254 classes, there are {len(classes)}')
    dropped: Counter[str] = Counter()
    sizes = []
    for annotated in track(pictures, 'reading'):
        path = args.images / annotated.name
        sizes.append(picture_size(path))
        turn(annotated, path)
        reasons = [clean(item, sizes[-1]) for item in annotated.items]
        dropped.update(filter(None, reasons))
        annotated.items = [
            item for item, why in zip(annotated.items, reasons, strict=True) if why is None
        ]
    content = coco_content(pictures, sizes, classes)
    if args.masks is not None:
        bare = [i.label for a in pictures for i in a.items if i.rle is None and not i.polygons]
        if bare:
            raise UserError(f'--masks needs polygons or masks: {bare[0]!r} has boxes alone')
        with whole_folder(args.masks) as out:
            for annotated, size in zip(track(pictures, 'drawing'), sizes, strict=True):
                target = (out / annotated.name).with_suffix('.png')
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw_mask(annotated.items, classes, size)).save(target)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
    print(f'classes in order: {", ".join(classes)}')
    print(
        f'wrote {len(pictures)} pictures and {len(content["annotations"])} objects to {args.output}'
    )
    for reason, count in dropped.items():
        print(f'left out: {count} x {reason}')


if __name__ == '__main__':
    run_tool(main)
