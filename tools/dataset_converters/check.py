"""Check the data of a config before a day of training: every picture and every label, in all splits.

    python tools/dataset_converters/check.py configs/mmseg/fpn_pvt_tiny_camvid.py OUT

Reads the data as the config's framework does, and reports unreadable pictures, labels that do not fit
their picture or the classes, classes without a sample, files that are in two splits, sizes, and counts
for each class. OUT receives check.md, check.json and samples_SPLIT.jpg: pictures with their labels,
those of training as the model sees them. Exit status 1 if something must be mended.
"""

import argparse
import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, VISUALIZERS, init_default_scope
from PIL import Image, ImageOps
from rich.progress import track

from spm_mm.engine import add_config, load_config, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import (
    Panel,
    class_colours,
    occurring,
    paint_labels,
    picture_of_sample,
    save_panels,
)

SPLITS = ('train', 'val', 'test')
SHOWN = 10
"""Files that are named for each kind of problem."""
COLUMNS = 4


@dataclass
class Split:
    """What was found in one split. ``problems`` and ``notes`` hold files by what is wrong with them."""

    name: str
    classes: list[str]
    unit: str
    files: dict[str, str] = field(default_factory=dict)
    sizes: Counter = field(default_factory=Counter)
    samples: Counter = field(default_factory=Counter)
    amounts: Counter = field(default_factory=Counter)
    problems: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def wrong(self, what: str, file: object) -> None:
        self.problems.setdefault(what, []).append(str(file))

    def note(self, what: str, file: object) -> None:
        self.notes.setdefault(what, []).append(str(file))


def datasets(dataset: Any) -> Iterator[Any]:
    """The datasets inside wrappers such as RepeatDataset and ConcatDataset."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
        return
    for part in inner:
        yield from datasets(part)


def check_split(name: str, dataset: Any, num_classes: int | None) -> Split:
    """Read every picture and label of a dataset of any of the three frameworks."""
    parts = list(datasets(dataset))
    classes = list((parts[0].metainfo or {}).get('classes') or ())
    split = Split(name, classes, 'objects')
    if num_classes is not None and classes and num_classes != len(classes):
        split.wrong(f'the model has {num_classes} classes, the data {len(classes)}', 'the config')
    for part in parts:
        for index in track(range(len(part)), f'checking {name}'):
            info = part.get_data_info(index)
            shape = check_picture(split, info.get('img_path'))
            if info.get('seg_map_path'):
                split.unit = 'pixels'
                check_mask(split, info, shape)
            elif 'instances' in info:
                check_instances(split, info, shape)
            elif 'gt_label' in info:
                check_label(split, info)
        check_categories(split, part)
    for label in classes:
        if not split.samples[label]:
            # Nothing is learned of a class without a sample; without one to validate it scores nothing.
            (split.wrong if name == 'train' else split.note)('class without a sample', label)
    return split


def check_picture(split: Split, path: str | None) -> tuple[int, int] | None:
    """Decode a picture; its height and width as the frameworks read it, None if that fails."""
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
        with Image.open(path) as stored:
            stored.load()  # a picture that was cut off shows here
            picture = ImageOps.exif_transpose(stored)
        if cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is None:
            raise OSError('OpenCV does not read it')
    except (OSError, SyntaxError, ValueError) as error:
        split.wrong('picture that cannot be read', f'{path} ({error})')
        return None
    if picture.size != stored.size:
        split.note('picture that is turned by its EXIF tag', path)
    elif stored.mode.startswith(('I', 'F')):
        split.note('picture of more than 8 bits, which the frameworks read as 8', path)
    split.files[str(path)] = hashlib.sha256(content).hexdigest()
    split.sizes[picture.size] += 1
    return picture.size[::-1]


def check_mask(split: Split, info: Mapping[str, Any], shape: tuple[int, int] | None) -> None:
    path, ignored = info['seg_map_path'], info.get('ignore_index', 255)
    try:
        with Image.open(path) as picture:
            mask = np.array(picture)
    except (OSError, SyntaxError, ValueError) as error:
        split.wrong('label picture that cannot be read', f'{path} ({error})')
        return
    if mask.ndim != 2:
        split.wrong('label picture in colours: index_masks.py makes numbers of them', path)
        return
    if mask.min() < 0 or mask.max() > 255:
        split.wrong('label above 255, which MMSegmentation would cut to 8 bits', path)
        return
    if shape is not None and mask.shape != shape:
        split.wrong(
            'label picture of another size than its picture', f'{path} {mask.shape}, {shape}'
        )
    values, counts = np.unique(mask.astype(np.uint8), return_counts=True)
    mapped = info.get('label_map') or {}
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        if info.get('reduce_zero_label'):
            value = ignored if value in (0, 255) else value - 1
        value = mapped.get(value, value)
        if value == ignored or value == -1:
            continue
        if value >= len(split.classes):
            split.wrong(f'label {value} for {len(split.classes)} classes', path)
            continue
        split.samples[split.classes[value]] += 1
        split.amounts[split.classes[value]] += count


def check_instances(split: Split, info: Mapping[str, Any], shape: tuple[int, int] | None) -> None:
    path = info['img_path']
    stated = info.get('height'), info.get('width')
    if shape is not None and all(stated) and stated != shape:
        split.wrong('picture of another size than its annotation says', f'{path} {shape}, {stated}')
    if not info['instances']:
        split.note('picture without an object', path)
    seen = set()
    for instance in info['instances']:
        label, (left, top, right, bottom) = instance['bbox_label'], instance['bbox']
        if not 0 <= label < len(split.classes):
            split.wrong(f'label {label} for {len(split.classes)} classes', path)
            continue
        if right <= left or bottom <= top:
            split.wrong('box without area', path)
        if shape is not None and (
            min(left, top) < -1 or right > shape[1] + 1 or bottom > shape[0] + 1
        ):
            split.wrong('box outside of its picture', path)
        mask = instance.get('mask')
        if isinstance(mask, list) and any(len(polygon) < 6 for polygon in mask):
            split.wrong('polygon of fewer than three points: to_coco.py leaves them out', path)
        seen.add(split.classes[label])
        split.amounts[split.classes[label]] += 1
    split.samples.update(seen)


def check_label(split: Split, info: Mapping[str, Any]) -> None:
    for label in np.atleast_1d(info['gt_label']).tolist():
        if not 0 <= label < len(split.classes):
            split.wrong(f'label {label} for {len(split.classes)} classes', info.get('img_path'))
            continue
        split.samples[split.classes[label]] += 1
        split.amounts[split.classes[label]] += 1


def check_categories(split: Split, dataset: Any) -> None:
    """What MMDetection passes over in silence in a COCO file."""
    file = Path(str(getattr(dataset, 'ann_file', '')))
    if file.suffix != '.json' or not file.is_file():
        return
    content = json.loads(file.read_text(encoding='utf-8'))
    if not isinstance(content, dict) or 'categories' not in content:
        return
    names = {category['id']: category['name'] for category in content['categories']}
    unknown: Counter = Counter()
    for annotation in content.get('annotations', ()):
        name = names.get(annotation['category_id'], f'id {annotation["category_id"]}')
        if name not in split.classes:
            unknown[name] += 1
        elif annotation.get('area', 1) <= 0 or min(annotation['bbox'][2:]) < 1:
            what = f'{file.name}, annotation {annotation.get("id")} ({name})'
            split.wrong('object of less than a pixel, which is left out', what)
    for name, count in unknown.items():
        split.wrong('category that is none of the classes', f'{name!r} with {count} objects')


def check_duplicates(splits: Sequence[Split]) -> None:
    """Pictures that are the same file to the byte, in two splits (wrong) or twice in one (noted)."""
    seen: dict[str, tuple[str, str]] = {}
    for split in splits:
        for path, digest in split.files.items():
            name, first = seen.setdefault(digest, (split.name, path))
            if first == path and name == split.name:
                continue
            if name == split.name:
                split.note('picture that is there twice', f'{path} is {first}')
            else:
                split.wrong(f'picture that is in {name}, too', f'{path} is {first}')


# What comes out


def markdown(splits: Sequence[Split]) -> str:
    lines = [
        '# Check of the data',
        '',
        '| split | pictures | sizes (width x height) |',
        '|---|---|---|',
    ]
    for split in splits:
        sizes = [f'{w} x {h}: {n}' for (w, h), n in split.sizes.most_common(3)]
        more = f', {len(split.sizes) - 3} others' if len(split.sizes) > 3 else ''
        lines.append(f'| {split.name} | {sum(split.sizes.values())} | {", ".join(sizes)}{more} |')
    heads = [f'{split.name}: pictures | {split.name}: {split.unit}' for split in splits]
    lines += ['', f'| class | {" | ".join(heads)} |', '|---' * (1 + 2 * len(splits)) + '|']
    for label in dict.fromkeys(label for split in splits for label in split.classes):
        cells = [f'{split.samples[label]} | {amount(split, label)}' for split in splits]
        lines.append(f'| {label} | {" | ".join(cells)} |')
    for title, kind in (('Problems', 'problems'), ('Notes', 'notes')):
        lines += ['', f'## {title}', '']
        found = [
            (split.name, what, files)
            for split in splits
            for what, files in getattr(split, kind).items()
        ]
        lines += [] if found else ['none']
        for name, what, files in found:
            lines.append(f'- {name}: {what} ({len(files)})')
            lines += [f'  - {file}' for file in files[:SHOWN]]
            lines += [f'  - and {len(files) - SHOWN} more'] if len(files) > SHOWN else []
    return '\n'.join(lines) + '\n'


def as_json(splits: Sequence[Split]) -> str:
    content = []
    for split in splits:
        sizes = {f'{width}x{height}': count for (width, height), count in split.sizes.items()}
        content.append({**vars(split), 'sizes': sizes})
    return json.dumps(content, indent=1)


def amount(split: Split, label: str) -> str:
    if split.unit == 'pixels':
        return f'{100 * split.amounts[label] / (sum(split.amounts.values()) or 1):.2f} %'
    return str(split.amounts[label])


def draw_samples(cfg: Config, dataset: Any, count: int, path: Path, trained: bool) -> None:
    """A picture of samples with their labels, boxes and classes by the framework's visualizer.

    Args:
        cfg: The config.
        dataset: One of its datasets.
        count: Samples, spread evenly.
        path: Picture to write.
        trained: Whether the samples are shown behind the pipeline, cropped and flipped as in training.
    """
    # It writes to no backend, and needs a name that is not taken.
    visualizer = VISUALIZERS.build({**cfg.visualizer, 'vis_backends': None, 'name': str(path)})
    visualizer.dataset_meta = dataset.metainfo
    panels, legend = [], {}
    np.random.seed(0)
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int):
        sample = dataset[int(index)]
        truth = sample['data_samples']
        # What is validated has its labels at the size of the file; what is trained, that of the input.
        image = None if trained else picture_of_sample(truth)
        if image is None:
            image = np.ascontiguousarray(sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1])
        if 'gt_sem_seg' in truth:
            labels = truth.gt_sem_seg.data[0].numpy()
            colours = class_colours(dataset.metainfo)
            legend |= occurring(colours, labels)
            drawn = paint_labels(image, labels, [*colours.values()])
        elif hasattr(visualizer, 'visualize_cls'):
            drawn = visualizer.visualize_cls(image, truth, draw_pred=False)
        else:
            boxes = getattr(getattr(truth, 'gt_instances', None), 'bboxes', None)
            if hasattr(boxes, 'tensor'):  # MMDetection's visualizer wants no box type
                truth.gt_instances.bboxes = boxes.tensor
            visualizer.add_datasample('sample', image, truth, draw_pred=False, out_file=str(path))
            drawn = cv2.imread(str(path))[..., ::-1]
        name = Path(truth.get('img_path') or f'sample {index}').name
        panels.append(Panel(np.ascontiguousarray(drawn), name))
    rows = [panels[i : i + COLUMNS] for i in range(0, len(panels), COLUMNS)]
    save_panels(path, rows, f'{path.stem}: pictures with their labels', legend)


def count_classes(cfg: Config) -> int | None:
    """Classes of the model's head; None where no head says."""
    model = cfg.get('model') or {}
    heads = (model.get('decode_head'), model.get('head'), model.get('bbox_head'))
    region = (model.get('roi_head') or {}).get('bbox_head')
    for head in (*heads, region):
        if isinstance(head, list):
            head = head[0]
        if isinstance(head, Mapping) and 'num_classes' in head:
            return head['num_classes']
    return None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument('out', metavar='OUT', type=Path, help='folder for the report')
    parser.add_argument(
        '--samples', type=int, default=12, help='pictures to draw of each split (default 12)'
    )
    args = parser.parse_args(argv)
    if args.samples < 0:
        raise UserError(f'--samples must be 0 or more, got {args.samples}')
    cfg = load_config(args)
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    init_default_scope(cfg.get('default_scope', 'spm_mm'))
    splits, read, built = [], [], {}
    for name in SPLITS:
        dataset = (cfg.get(f'{name}_dataloader') or {}).get('dataset')
        if dataset is None or dataset in read:
            continue
        read.append(dataset)
        try:
            built[name] = DATASETS.build(dataset)
        except (FileNotFoundError, KeyError, TypeError, AssertionError) as error:
            raise UserError(f'{name}_dataloader.dataset cannot be read: {error}') from error
        splits.append(check_split(name, built[name], count_classes(cfg)))
    if not splits:
        raise UserError(f'{args.config} reads no data')
    check_duplicates(splits)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'check.md').write_text(markdown(splits))
    (args.out / 'check.json').write_text(as_json(splits))
    print(markdown(splits))
    unreadable = any(split.problems for split in splits)
    for name, dataset in built.items() if args.samples else ():
        try:
            path = args.out / f'samples_{name}.jpg'
            draw_samples(cfg, dataset, args.samples, path, trained=name == 'train')
        except Exception as error:
            if not unreadable:
                raise
            print(f'samples of {name} are not drawn, by the problems above: {error}')
    sys.exit(1 if unreadable else 0)


if __name__ == '__main__':
    run_tool(main)
