"""Compose scenes with exact masks, and write them in three layouts: ADE20K, COCO and ImageNet.

A scene has two textured surfaces (a wall over a floor, or sky over grass) and several objects with
textures, shadows and occlusion. Everything is drawn from --seed and the scene's number, so the same
call writes the same files. Nothing is downloaded.

Layout below OUT, each a normal root for the data set class of that name:
  ade/images/{training,validation}/*.jpg, ade/annotations/.../*.png    labels 1..150 of ADE20K
  coco/{train2017,val2017}/*.jpg, coco/annotations/instances_{train,val}2017.json
  imagenet/{train,val}/CLASS/*.jpg                                     class of the largest object
"""

import argparse
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mmseg.utils import ade_classes
from numpy.random import Generator
from pycocotools import mask as coco_mask

from spm_mm.engine import run_tool
from spm_mm.errors import UserError
from spm_mm.registry import suggest

ADE20K = [name.strip() for name in ade_classes()]
SURFACES = (('wall', 'floor'), ('sky', 'grass'))
HUES = {'wall': 20, 'floor': 12, 'sky': 108, 'grass': 55}  # OpenCV's, 0 to 179
LAYOUTS = ('ade', 'coco', 'imagenet')
MIN_VISIBLE = 20  # pixels; an object that is hidden more than that is not annotated


@dataclass(frozen=True)
class Cutout:
    """An object: its class, colours (h, w, 3) in 0..1 BGR, and coverage (h, w) in 0..1."""

    label: str
    image: np.ndarray
    alpha: np.ndarray


@dataclass(frozen=True)
class Scene:
    """An image (H, W, 3) uint8 BGR, its ADE20K labels (H, W), and the visible mask of each object."""

    image: np.ndarray
    labels: np.ndarray
    objects: list[tuple[str, np.ndarray]]


# Textures


def noise(rng: Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise in 0..1 whose features are about ``cell`` pixels wide."""
    grid = rng.random((int(height / cell) + 2, int(width / cell) + 2)).astype(np.float32)
    smooth = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0, 1)


def paint(rng: Generator, pattern: np.ndarray, hue: float, spread: float = 6) -> np.ndarray:
    """Colour a pattern (h, w) in 0..1 around a hue; BGR in 0..1."""
    saturation = rng.uniform(90, 200)
    low, high = rng.uniform(60, 110), rng.uniform(170, 255)
    hsv = np.empty((*pattern.shape, 3), np.float32)
    hsv[..., 0] = (rng.normal(hue, spread) % 180) * 2
    hsv[..., 1] = saturation / 255
    hsv[..., 2] = (low + (high - low) * pattern) / 255
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def stripes(height: int, width: int, period: float, angle: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    phase = x * np.cos(angle) + y * np.sin(angle)
    return 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * phase / period)).astype(np.float32)


def surface(rng: Generator, label: str, height: int, width: int) -> np.ndarray:
    if label == 'wall':
        pattern = 0.7 * noise(rng, height, width, 24) + 0.3 * stripes(height, width, 17, 0.0)
    elif label == 'floor':
        checks = stripes(height, width, 28, 0.0) * stripes(height, width, 18, np.pi / 2)
        pattern = 0.4 * noise(rng, height, width, 6) + 0.4 * checks
    elif label == 'sky':
        pattern = 0.5 + 0.5 * noise(rng, height, width, 40)
    else:
        pattern = noise(rng, height, width, 2.5)
    return paint(rng, pattern, HUES[label])


# Objects. Each draws on a square of ``size`` pixels.


def disc(size: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return (x**2 + y**2 <= (radius * size) ** 2).astype(np.float32)


def polygon(size: int, points: list[tuple[float, float]]) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    cv2.fillPoly(mask, [np.round(np.array(points) * (size - 1)).astype(np.int32)], 1.0)
    return mask


def ball(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:size, :size] / (size - 1) - 0.35
    light = np.clip(1 - 1.6 * np.hypot(x, y), 0, 1).astype(np.float32)
    return paint(rng, 0.25 + 0.75 * light, rng.choice([0, 165])), disc(size, 0.48)


def book(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    pattern = 0.3 + 0.7 * stripes(size, size, max(size / 7, 3), np.pi / 2)
    return paint(rng, pattern, 130), polygon(
        size, [(0.2, 0.05), (0.8, 0.05), (0.8, 0.95), (0.2, 0.95)]
    )


def box(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    pattern = 0.3 + 0.3 * noise(rng, size, size, 4)
    pattern[: size // 3] += 0.3
    outline = [(0.05, 0.3), (0.25, 0.1), (0.95, 0.1), (0.95, 0.75), (0.75, 0.95), (0.05, 0.95)]
    return paint(rng, np.clip(pattern, 0, 1), 15, 2), polygon(size, outline)


def clock(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    image = np.full((size, size, 3), rng.uniform(0.8, 1.0), np.float32)
    centre = ((size - 1) // 2,) * 2
    image[disc(size, 0.48) - disc(size, 0.4) > 0] = paint(rng, np.zeros((1, 1)), 90)[0, 0]
    for turn, length in ((rng.uniform(0, 2 * np.pi), 0.35), (rng.uniform(0, 2 * np.pi), 0.22)):
        tip = (
            centre[0] + int(np.sin(turn) * length * size),
            centre[1] - int(np.cos(turn) * length * size),
        )
        cv2.line(image, centre, tip, (0.1, 0.1, 0.1), max(size // 16, 1))
    return image, disc(size, 0.48)


def flag(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    pattern = stripes(size, size, size / 2.5, 0.0)
    image = paint(rng, pattern, rng.choice([60, 120]), 3)
    image[pattern > 0.5] = 0.95
    return image, polygon(size, [(0.02, 0.2), (0.98, 0.35), (0.98, 0.8), (0.02, 0.65)])


def lamp(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    image = paint(rng, np.ones((size, size), np.float32), 28, 2)
    shade = polygon(size, [(0.35, 0.05), (0.65, 0.05), (0.9, 0.55), (0.1, 0.55)])
    stand = polygon(
        size, [(0.46, 0.5), (0.54, 0.5), (0.54, 0.9), (0.7, 0.97), (0.3, 0.97), (0.46, 0.9)]
    )
    image[(stand > 0) & (shade == 0)] = 0.15
    return image, np.maximum(shade, stand)


def plate(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    pattern = 0.9 - 0.5 * (disc(size, 0.34) - disc(size, 0.27))
    image = paint(rng, pattern.astype(np.float32), 100) * 0.3 + 0.7 * pattern[..., None]
    squeezed = cv2.resize(disc(size, 0.49), (size, size // 2), interpolation=cv2.INTER_NEAREST)
    alpha = np.zeros((size, size), np.float32)
    alpha[size // 4 : size // 4 + size // 2] = squeezed
    return image.astype(np.float32), alpha


def vase(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    right = [(0.6, 0.05), (0.57, 0.25), (0.85, 0.55), (0.75, 0.85), (0.62, 0.97)]
    outline = right + [(1 - x, y) for x, y in reversed(right)]
    pattern = 0.4 * stripes(size, size, size / 4, np.pi / 2) + 0.6 * noise(
        rng, size, size, size / 3
    )
    return paint(rng, np.clip(pattern, 0, 1), 80), polygon(size, outline)


OBJECTS: dict[str, Callable[[Generator, int], tuple[np.ndarray, np.ndarray]]] = {
    f.__name__: f for f in (ball, book, box, clock, flag, lamp, plate, vase)
}


def read_cutouts(folder: Path) -> list[Cutout]:
    """Read RGBA pictures FOLDER/CLASS/*.png, where CLASS is a class of ADE20K."""
    if not folder.is_dir():
        raise UserError(f'--cutouts {folder} is no folder')
    cutouts = []
    for path in sorted(folder.glob('*/*.png')):
        label = path.parent.name
        if label not in ADE20K:
            hint = suggest(label, ADE20K).rpartition(';')[2]
            raise UserError(f'--cutouts: folder {label!r} is no class of ADE20K;{hint}')
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
            raise UserError(f'--cutouts: {path} has no alpha channel (RGBA is needed)')
        picture = picture.astype(np.float32) / np.iinfo(picture.dtype).max
        cutouts.append(Cutout(label, picture[..., :3], picture[..., 3]))
    if not cutouts:
        raise UserError(f'--cutouts {folder} holds no CLASS/*.png')
    return cutouts


def draw_object(rng: Generator, size: int, cutouts: list[Cutout] | None) -> Cutout:
    """An object of about ``size`` pixels, turned and perhaps mirrored."""
    if cutouts:
        chosen = cutouts[rng.integers(len(cutouts))]
        scale = size / max(chosen.alpha.shape)
        shape = [max(round(side * scale), 2) for side in reversed(chosen.alpha.shape)]
        label = chosen.label
        image, alpha = (
            cv2.resize(part, shape, interpolation=cv2.INTER_AREA)
            for part in (chosen.image, chosen.alpha)
        )
    else:
        label = str(rng.choice(list(OBJECTS)))
        image, alpha = OBJECTS[label](rng, size)
    if rng.random() < 0.5:
        image, alpha = image[:, ::-1].copy(), alpha[:, ::-1].copy()
    side = int(np.hypot(*alpha.shape)) + 2
    turn = cv2.getRotationMatrix2D(
        ((alpha.shape[1] - 1) / 2, (alpha.shape[0] - 1) / 2), rng.uniform(-25, 25), 1
    )
    turn[:, 2] += (side - np.array(alpha.shape[::-1])) / 2
    image, alpha = (
        cv2.warpAffine(part, turn, (side, side), flags=cv2.INTER_LINEAR) for part in (image, alpha)
    )
    return Cutout(label, image, alpha)


# Scenes


def paste(canvas: np.ndarray, patch: np.ndarray, top: int, left: int) -> tuple[slice, ...] | None:
    """Where a patch at (top, left) meets the canvas: slices of the canvas, then of the patch."""
    (h, w), (ph, pw) = canvas.shape[:2], patch.shape[:2]
    y0, y1, x0, x1 = max(top, 0), min(top + ph, h), max(left, 0), min(left + pw, w)
    if y0 >= y1 or x0 >= x1:
        return None
    return slice(y0, y1), slice(x0, x1), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def compose(
    rng: Generator, size: tuple[int, int], count: tuple[int, int], cutouts: list[Cutout] | None
) -> Scene:
    """Compose one scene of ``size`` (width, height) with a number of objects in ``count``."""
    width, height = size
    above, below = SURFACES[rng.integers(len(SURFACES))]
    horizon = int(height * rng.uniform(0.3, 0.7))
    image = surface(rng, above, height, width)
    image[horizon:] = surface(rng, below, height, width)[horizon:]
    labels = np.full((height, width), ADE20K.index(above) + 1, np.uint8)
    labels[horizon:] = ADE20K.index(below) + 1
    image *= 0.85 + 0.15 * noise(rng, height, width, max(size) / 2)[..., None]

    owner = np.full((height, width), -1, np.int32)
    names = []
    for index in range(int(rng.integers(count[0], count[1] + 1))):
        item = draw_object(rng, int(min(size) * rng.uniform(0.18, 0.5)), cutouts)
        top = int(rng.uniform(-0.2, 0.85) * height)
        left = int(rng.uniform(-0.15, 0.85) * width)
        names.append(item.label)
        shadow = cv2.GaussianBlur(item.alpha, (0, 0), max(item.alpha.shape[0] / 20, 1))
        offset = max(item.alpha.shape[0] // 14, 1)
        if where := paste(image, shadow, top + offset, left + offset):
            image[where[:2]] *= 1 - 0.45 * shadow[where[2:]][..., None]
        if where := paste(image, item.alpha, top, left):
            alpha = item.alpha[where[2:]]
            image[where[:2]] += alpha[..., None] * (item.image[where[2:]] - image[where[:2]])
            covered = alpha > 0.5
            owner[where[:2]][covered] = index
            labels[where[:2]][covered] = ADE20K.index(item.label) + 1
    image += rng.normal(0, 0.02, image.shape)
    objects = [(name, owner == i) for i, name in enumerate(names)]
    return Scene(
        np.round(np.clip(image, 0, 1) * 255).astype(np.uint8),
        labels,
        [(name, mask) for name, mask in objects if mask.sum() >= MIN_VISIBLE],
    )


# Files


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        target.write_bytes(source.read_bytes())


def coco_annotation(number: int, image_id: int, category_id: int, mask: np.ndarray) -> dict:
    """Instance annotation with the visible mask as an uncompressed-to-text RLE."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        'id': number,
        'image_id': image_id,
        'category_id': category_id,
        'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode()},
        'bbox': [float(side) for side in coco_mask.toBbox(rle)],
        'area': float(mask.sum()),
        'iscrowd': 0,
    }


def write_split(
    out: Path, split: str, scenes: Callable[[int], Scene], count: int, categories: list[str]
) -> None:
    ade = {'train': 'training', 'val': 'validation'}[split]
    images, annotations = [], []
    folders = [out / 'ade' / kind / ade for kind in ('images', 'annotations')]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scene = scenes(number)
        name = f'scene_{split}_{number:06d}'
        path = folders[0] / f'{name}.jpg'
        cv2.imwrite(str(path), scene.image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        cv2.imwrite(str(folders[1] / f'{name}.png'), scene.labels)
        link(path, out / 'coco' / f'{split}2017' / path.name)
        height, width = scene.labels.shape
        images.append({'id': number, 'file_name': path.name, 'height': height, 'width': width})
        for label, mask in scene.objects:
            category = categories.index(label) + 1
            annotations.append(coco_annotation(len(annotations) + 1, number, category, mask))
        if scene.objects:
            largest = max(scene.objects, key=lambda item: item[1].sum())[0]
            link(path, out / 'imagenet' / split / largest.replace(' ', '_') / path.name)
    # Every class has a folder in both splits, so that both number the classes alike.
    for label in categories:
        (out / 'imagenet' / split / label.replace(' ', '_')).mkdir(parents=True, exist_ok=True)
    target = out / 'coco' / 'annotations' / f'instances_{split}2017.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    names = [{'id': i, 'name': label} for i, label in enumerate(categories, start=1)]
    target.write_text(
        json.dumps({'images': images, 'annotations': annotations, 'categories': names})
    )


def make_room(out: Path, overwrite: bool) -> None:
    """Remove scenes of an earlier call, if that is wanted, and nothing else."""
    taken = [out / layout for layout in LAYOUTS if (out / layout).exists()]
    if taken and not overwrite:
        raise UserError(f'{taken[0]} exists already: --overwrite replaces composed scenes')
    for path in (path for folder in taken for path in folder.rglob('*')):
        if path.is_file() and not path.name.startswith(('scene_', 'instances_')):
            raise UserError(f'--overwrite: {path} is no composed scene, nothing was removed')
    for folder in taken:
        shutil.rmtree(folder)


def compose_dataset(
    out: Path,
    train: int,
    val: int,
    size: tuple[int, int] = (128, 128),
    objects: tuple[int, int] = (2, 6),
    seed: int = 0,
    cutouts: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write the data set; the arguments are the tool's.

    Raises:
        UserError: If an argument is out of range, the cut-outs cannot be used, or ``out`` is in use.
    """
    if min(train, val) < 1:
        raise UserError(f'--train and --val must be at least 1, got {train} and {val}')
    if min(size) < 32:
        raise UserError(f'--size must be at least 32 32, got {size[0]} {size[1]}')
    if not 1 <= objects[0] <= objects[1]:
        raise UserError(f'--objects must be 1 <= MIN <= MAX, got {objects[0]} {objects[1]}')
    if seed < 0:
        raise UserError(f'--seed must not be negative, got {seed}')
    pieces = read_cutouts(cutouts) if cutouts else None
    categories = sorted({piece.label for piece in pieces} if pieces else OBJECTS)
    make_room(out, overwrite)
    for number, (split, count) in enumerate((('train', train), ('val', val))):
        write_split(
            out,
            split,
            lambda i, n=number: compose(np.random.default_rng([seed, n, i]), size, objects, pieces),
            count,
            categories,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', metavar='OUT', type=Path, help='folder to write to')
    parser.add_argument('--train', type=int, default=400, help='training scenes (default 400)')
    parser.add_argument('--val', type=int, default=80, help='validation scenes (default 80)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(128, 128),
        metavar=('WIDTH', 'HEIGHT'),
        help='pixels (default 128 128)',
    )
    parser.add_argument(
        '--objects',
        type=int,
        nargs=2,
        default=(2, 6),
        metavar=('MIN', 'MAX'),
        help='in a scene (default 2 to 6)',
    )
    parser.add_argument('--seed', type=int, default=0, help='default 0')
    parser.add_argument(
        '--cutouts', type=Path, metavar='DIR', help='use RGBA pictures DIR/CLASS/*.png as objects'
    )
    parser.add_argument(
        '--overwrite', action='store_true', help=f'replace OUT/{{{",".join(LAYOUTS)}}}'
    )
    args = parser.parse_args()
    compose_dataset(**vars(args))
    print(f'wrote {args.train} + {args.val} scenes to {args.out}')


if __name__ == '__main__':
    run_tool(main)
