"""Convert CamVid, as its authors lay it out, to what the configs read: 11 classes, void is 255.

IN holds 701_StillsRaw_full/NAME.png, LabeledApproved_full/NAME_L.png (colours) and label_colors.txt; it
is searched with all its folders. The 32 classes become the 11 of the usual benchmark. OUT receives
images/{train,val,test}/NAME.png and annotations/{train,val,test}/NAME.png.

The pictures are split by sequence as in that benchmark: 367 to train, 101 to validate, 233 to test;
--lists DIR with train.txt, val.txt and test.txt (one NAME or path a line) splits them otherwise. The
config wants dataset.img_suffix='.png' for these pictures.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from index_masks import IGNORED, color_to_index, read_colors, read_mask, whole_folder
from PIL import Image
from rich.progress import track

from spm_mm.engine import run_tool
from spm_mm.errors import UserError

# The order of configs/mmseg/_base_/datasets/camvid.py; what is in none of them is void.
CLASSES = {
    'sky': ('Sky',),
    'building': ('Bridge', 'Building', 'Wall', 'Tunnel', 'Archway'),
    'pole': ('Column_Pole', 'TrafficCone'),
    'road': ('Road', 'LaneMkgsDriv', 'LaneMkgsNonDriv'),
    'pavement': ('Sidewalk', 'ParkingBlock', 'RoadShoulder'),
    'tree': ('Tree', 'VegetationMisc'),
    'sign': ('SignSymbol', 'Misc_Text', 'TrafficLight'),
    'fence': ('Fence',),
    'car': ('Car', 'SUVPickupTruck', 'Truck_Bus', 'Train', 'OtherMoving'),
    'pedestrian': ('Pedestrian', 'Child', 'CartLuggagePram', 'Animal'),
    'bicyclist': ('Bicyclist', 'MotorcycleScooter'),
}
SPLITS = ('train', 'val', 'test')


def split_of(name: str) -> str:
    """The split of a frame, by its sequence and number.

    Raises:
        UserError: If the name is of none of the five sequences.
    """
    match = re.fullmatch(r'(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)', name)
    if match is None:
        raise UserError(f'{name} is no frame of CamVid: its split needs --lists')
    sequence, number = match[1], int(match[2])
    if sequence == '0001TP':
        return 'train' if number <= 8520 else 'test'
    if sequence == '0016E5':
        # Fifteen frames a second in one part, one a second in the other.
        return 'val' if 7959 <= number <= 8159 and number % 2 else 'train'
    return {'0006R0': 'train', 'Seq05VD': 'test'}[sequence]


def read_lists(folder: Path) -> dict[str, str]:
    """Split of every name in DIR/{train,val,test}.txt; a path stands for its file's name."""
    splits = {}
    for split in SPLITS:
        path = folder / f'{split}.txt'
        for line in path.read_text(encoding='utf-8').splitlines() if path.is_file() else ():
            if line.strip():
                splits[Path(line.split()[0]).stem.removesuffix('_L')] = split
    if not splits:
        raise UserError(f'--lists {folder} holds no {", ".join(f"{one}.txt" for one in SPLITS)}')
    return splits


def index_of_colors(path: Path) -> dict[tuple[int, int, int], int]:
    """From each colour of label_colors.txt to one of the 11 classes, or 255.

    Raises:
        UserError: If a class of the benchmark is not there.
    """
    colors = read_colors(path)
    numbers = {name: i for i, names in enumerate(CLASSES.values()) for name in names}
    missing = sorted(numbers.keys() - colors.keys())
    if missing:
        raise UserError(f'{path} does not name {", ".join(missing)}')
    return {color: numbers.get(name, IGNORED) for name, color in colors.items()}


def find_pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Picture and labels of every frame, by name.

    Raises:
        UserError: If there are none, or labels have no picture.
    """
    labels = {path.stem.removesuffix('_L'): path for path in sorted(folder.rglob('*_L.png'))}
    pictures = {path.stem: path for path in sorted(folder.rglob('*.png'))}
    if not labels:
        raise UserError(f'{folder} holds no *_L.png, the labels of CamVid')
    missing = [name for name in labels if name not in pictures]
    if missing:
        raise UserError(f'{len(missing)} labels have no picture, e.g. {labels[missing[0]]}')
    return {name: (pictures[name], path) for name, path in labels.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('input', metavar='IN', type=Path, help='folder of CamVid')
    parser.add_argument('output', metavar='OUT', type=Path, help='folder to write; must not exist')
    parser.add_argument(
        '--lists', type=Path, metavar='DIR', help='folder of train.txt, val.txt, test.txt'
    )
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        default=(480, 360),
        metavar=('WIDTH', 'HEIGHT'),
        help='pixels (default 480 360; the originals have 960 720)',
    )
    args = parser.parse_args(argv)
    if min(args.size) < 1:
        raise UserError(f'--size must be positive, got {args.size[0]} {args.size[1]}')
    colors = index_of_colors(
        next(iter(args.input.rglob('label_colors.txt')), args.input / 'label_colors.txt')
    )
    pairs = find_pairs(args.input)
    lists = read_lists(args.lists) if args.lists else None
    splits = {name: lists.get(name) if lists else split_of(name) for name in pairs}
    if args.output.exists():
        raise UserError(f'{args.output} exists already: name another folder, or remove it')
    counts = dict.fromkeys(SPLITS, 0)
    with whole_folder(args.output) as out:
        for name, (picture, labels) in track(pairs.items(), 'converting'):
            split = splits[name]
            if split is None:
                continue
            counts[split] += 1
            mask = Image.fromarray(read_labels(labels, colors))
            write(
                mask, Image.Resampling.NEAREST, args.size, out / f'annotations/{split}/{name}.png'
            )
            with Image.open(picture) as image:
                rgb = image.convert('RGB')
            write(rgb, Image.Resampling.LANCZOS, args.size, out / f'images/{split}/{name}.png')
    print('wrote ' + ', '.join(f'{count} to {split}' for split, count in counts.items()))


def read_labels(path: Path, colors: dict[tuple[int, int, int], int]) -> np.ndarray:
    mask = read_mask(path)
    if mask.ndim != 3:
        raise UserError(f'{path} is not coloured')
    return color_to_index(mask, colors, path)


def write(
    image: Image.Image, resampling: Image.Resampling, size: Sequence[int], path: Path
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize(tuple(size), resampling).save(path)


if __name__ == '__main__':
    run_tool(main)
