"""The clusters of a PaCa-ViT: all of a stage as an atlas, and what those do that matter most.

For a classifier, the picture is masked by each cluster and classified again (PaCa, section 3.3):
clusters that keep its prediction are the positive group, the others the negative one, and the most
certain of both are shown with class and probability (Figure 6). For a segmentor with the PaCa head,
the clusters of the largest classes are shown beside the prediction.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from spm_mm.attention import assign
from spm_mm.backbones import PaCaViT
from spm_mm.compat import check_state_dict, load_checkpoint, load_weights
from spm_mm.engine import add_picture_arguments, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import (
    Panel,
    Recorder,
    Verdict,
    atlas,
    heat_maps,
    judge_clusters,
    mask_image,
    read_image,
    save_panels,
    top_clusters,
)


def load_model(cfg: Config, checkpoint: str | None) -> nn.Module:
    """Build the model of a config with a checkpoint's weights, in evaluation mode.

    Raises:
        UserError: If its backbone has no clusters, or the checkpoint does not fit.
    """
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    if not isinstance(model.backbone, PaCaViT):
        raise UserError(
            f'clusters are those of a PaCaViT, this backbone is a {type(model.backbone).__name__}'
        )
    if checkpoint is not None:
        weights = load_weights(checkpoint)
        if missing := check_state_dict(model, weights, checkpoint):
            raise UserError(
                f'checkpoint {checkpoint} lacks {len(missing)} entries of the model, first'
                f' {", ".join(missing[:3])}'
            )
        model.load_state_dict(weights)
    return model.eval()


def class_names(checkpoint: str | None) -> Callable[[int], str]:
    """Names of the classes, from the checkpoint where it has them, else their numbers."""
    meta = load_checkpoint(checkpoint).get('meta', {}) if checkpoint else {}
    names = (meta.get('dataset_meta') or {}).get('classes') or ()
    return lambda label: names[label] if label < len(names) else f'class {label}'


def recorded_clusters(
    backbone: PaCaViT, image: Tensor, stage: int, block: int | None
) -> tuple[Tensor, tuple[int, int]]:
    """Assignment (M, h * w) of a block, of the last one for None, and its grid (h, w).

    Raises:
        UserError: If there is no such stage or block, or it has no clusters.
    """
    if not 1 <= stage <= backbone.num_stages:
        raise UserError(f'--stage must be from 1 to {backbone.num_stages}, got {stage}')
    blocks = backbone.depths[stage - 1]
    if block is not None and not 1 <= block <= blocks:
        raise UserError(f'--block of stage {stage} must be from 1 to {blocks}, got {block}')
    if not backbone.num_clusters[stage - 1]:
        raise UserError(
            f'stage {stage} has no clusters; the stages have {list(backbone.num_clusters)}'
        )
    name = f'stages.{stage - 1}' + ('' if block is None else f'.blocks.{block - 1}')
    with torch.no_grad(), Recorder(backbone, modules=[name]) as seen:
        backbone(image)
    x, assignment = seen.outputs[name]
    return assignment[0], tuple(x.shape[1:3])


def classifier_panels(
    model: nn.Module,
    picture: Tensor,
    heat: Tensor,
    threshold: float | None,
    number: int,
    name: Callable[[int], str],
) -> list[list[Panel]]:
    """The most certain clusters of both groups: heat and masked picture of each."""

    def classify(pictures: Tensor) -> Tensor:
        inputs = model.data_preprocessor({'inputs': pictures.flip(1)})['inputs']
        return model.head(model.extract_feat(inputs)).softmax(dim=1)

    whole, verdicts = judge_clusters(classify, picture, heat, threshold)
    print(f'{name(whole.label)} at {whole.probability:.3f};', end=' ')
    print(f'{sum(v.kept for v in verdicts)} of {len(verdicts)} clusters keep it')

    def describe(verdict: Verdict) -> str:
        return f'{name(verdict.label)}, {verdict.probability:.3f}'

    shown = picture.permute(1, 2, 0).byte().numpy()
    rows = [[Panel(shown, f'picture\n{describe(whole)}')]]
    for kept, group in ((True, 'positive'), (False, 'negative')):
        row = []
        for verdict in top_clusters(verdicts, kept, number):
            values = heat[verdict.cluster]
            masked = mask_image(picture, values[None], threshold)[0]
            row.append(Panel(shown, f'{group}: cluster {verdict.cluster}', values.numpy()))
            row.append(Panel(masked.permute(1, 2, 0).byte().numpy(), describe(verdict)))
            print(f'{group}: cluster {verdict.cluster}: {describe(verdict)}')
        if row:
            rows.append(row)
    return rows


def segmentor_panels(
    model: nn.Module, image: Tensor, picture: np.ndarray, number: int, name: Callable[[int], str]
) -> list[list[Panel]]:
    """The prediction, and the clusters of its largest classes."""
    size = tuple(image.shape[2:])
    with torch.no_grad():
        logits, clusters = model.decode_head.forward_with_clusters(model.extract_feat(image))
    if logits.shape[1] == 1:  # two classes told by one number
        labels = (logits.sigmoid() > model.decode_head.threshold)[0, 0].long()
    else:
        labels = logits.argmax(dim=1)[0]
    heat = heat_maps(assign(clusters.permute(0, 2, 3, 1))[0], tuple(clusters.shape[2:]), size)
    areas = torch.bincount(labels.flatten(), minlength=len(heat))
    row = [Panel(picture, 'picture'), Panel(labels.numpy(), 'prediction')]
    for label in areas.argsort(descending=True)[:number].tolist():
        if areas[label]:
            share = float(areas[label] / labels.numel())
            caption = f'cluster of {name(label)}\n{share:.0%} of the prediction'
            row.append(Panel(picture, caption, heat[label].numpy()))
            print(caption.replace('\n', ': '))
    return [row]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'image', 'picture')
    parser.add_argument('--stage', type=int, default=1, help='stage of the clusters, from 1')
    parser.add_argument('--block', type=int, help='block of the stage, from 1; default: the last')
    parser.add_argument(
        '--threshold',
        type=float,
        help='mask by a limit of the heat, 0 to 1; default: weigh by the heat',
    )
    parser.add_argument('--top', type=int, default=3, help='clusters of each group, or classes')
    args = parser.parse_args(argv)
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise UserError(f'--threshold must be from 0 to 1, got {args.threshold}')
    if args.top < 1:
        raise UserError(f'--top must be at least 1, got {args.top}')
    cfg, size, title = read_picture_arguments(args)
    model = load_model(cfg, args.checkpoint)
    picture, image = read_image(args.image, cfg, size)
    assignment, grid = recorded_clusters(model.backbone, image, args.stage, args.block)
    heat = heat_maps(assignment, grid, size)
    name = class_names(args.checkpoint)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    caption = f'{title}, {len(heat)} clusters of stage {args.stage}, {grid[0]} x {grid[1]} cells'
    cv2.imwrite(str(args.out), atlas(picture, heat, caption)[..., ::-1])
    print(f'wrote {args.out}')
    rows = []
    if cfg.default_scope == 'mmpretrain':
        values = torch.from_numpy(picture.copy()).permute(2, 0, 1).float()
        rows = classifier_panels(model, values, heat, args.threshold, args.top, name)
    elif hasattr(getattr(model, 'decode_head', None), 'forward_with_clusters'):
        rows = segmentor_panels(model, image, picture, args.top, name)
    if rows:
        path: Path = args.out.with_stem(f'{args.out.stem}_top')
        save_panels(path, rows, title)
        print(f'wrote {path}')


if __name__ == '__main__':
    run_tool(main)
