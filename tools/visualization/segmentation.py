"""One picture of the test data, segmented by several models, and what each of them sees.

A column for the model and one for each of --beside: its prediction with its mIoU, where it is
wrong, and the effective receptive field of the central cell after its last merging, averaged over
pictures. The fields of all models have one scale, the square root of the energy. The number of
a field is the smallest share of the picture that holds half of its energy.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from rich.progress import track
from torch import Tensor, nn

from spm_mm.engine import DrawnModel, add_picture_arguments, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import (
    WRONG,
    Panel,
    class_colours,
    common_limits,
    confusion_matrix,
    half_energy_area,
    intersection_over_union,
    labels_of,
    load_model,
    occurring,
    picture_of_sample,
    receptive_fields,
    save_panels,
    segmentation_panels,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, '', '')
    parser.add_argument('--title', default='', help='text above the figure')
    parser.add_argument(
        '--picture', type=int, default=0, help='number of the picture in the test data, from 0'
    )
    parser.add_argument(
        '--number', type=int, default=100, help='pictures for the field, at most; default: 100'
    )
    args = parser.parse_args(argv)
    models = read_picture_arguments(args)
    for model in models:
        if model.cfg.default_scope != 'mmseg':
            raise UserError(f'{model.name} is no segmentor: its default_scope is not mmseg')
    colours = class_colours(models[0].cfg)
    first, *other_rows = [], [], []
    labels, fields = [], []
    for model in models:
        segmentor = load_model(model.cfg, model.checkpoint, args.device)
        sample, miou, images = evaluate(segmentor, model, args.picture, args.number)
        labels += labels_of(sample)
        panels = segmentation_panels(picture_of_sample(sample), *labels_of(sample), colours)
        picture, prediction, truth, errors = panels
        first.append(Panel(prediction.picture, f'{model.name}\nmIoU {miou:.1f}'))
        other_rows[0].append(errors)
        fields.append(last_field(segmentor.backbone, images))
        area = half_energy_area(fields[-1])
        print(f'{model.name}: mIoU {miou:.2f}, half of the energy in {area:.2%}')
    limits = common_limits([np.sqrt(field) for field in fields])
    for field in fields:
        caption = f'receptive field\nhalf of its energy: {half_energy_area(field):.1%}'
        seen = dict(limits=limits, scale='square root of energy', scale_bar=field.shape[1] // 4)
        other_rows[1].append(Panel(np.sqrt(field), caption, **seen))
    rows = [[picture, *first], [truth, *other_rows[0]], [None, *other_rows[1]]]
    legend = occurring(colours, *labels) | {'wrong': WRONG}
    save_panels(args.out, rows, args.title, legend, side=2)
    print(f'wrote {args.out}')


def evaluate(
    segmentor: nn.Module, model: DrawnModel, picture: int, number: int
) -> tuple[object, float, list[Tensor]]:
    """Segment all test data.

    Args:
        segmentor: Model in evaluation mode.
        model: What it was built of.
        picture: Number of the picture that is returned.
        number: How many normalised images are returned at most.

    Returns:
        Data sample of the picture, mIoU in percent, and images (1, 3, H, W), spread evenly.

    Raises:
        UserError: If there is no such picture.
    """
    dataset = DATASETS.build(model.cfg.test_dataloader.dataset)
    if not 0 <= picture < len(dataset):
        raise UserError(f'--picture must be from 0 to {len(dataset) - 1}, got {picture}')
    classes = len(dataset.metainfo['classes'])
    confusion = np.zeros((classes, classes), np.int64)
    shown = set(np.linspace(0, len(dataset) - 1, min(number, len(dataset))).round().astype(int))
    images = []
    for index in track(range(len(dataset)), model.name):
        data = segmentor.data_preprocessor(pseudo_collate([dataset[index]]))
        with torch.no_grad():
            sample = segmentor(**data, mode='predict')[0]
        confusion += confusion_matrix(*labels_of(sample), classes)
        if index in shown:
            images.append(data['inputs'])
        if index == picture:
            wanted = sample
    return wanted, float(np.nanmean(intersection_over_union(confusion))), images


def last_field(backbone: nn.Module, images: Sequence[Tensor]) -> np.ndarray:
    """Effective receptive field (H, W) after the last merging."""
    if not len(backbone.mergings):
        raise UserError(f'this {type(backbone).__name__} has no merging')
    name = f'mergings.{len(backbone.mergings) - 1}'
    return receptive_fields(backbone.requires_grad_(False), images, [name])[name][1]


if __name__ == '__main__':
    run_tool(main)
