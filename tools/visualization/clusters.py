"""The clusters of a PaCa-ViT, and which of them a classification rests on (PaCa, section 3.3,
Figure 6).

A picture that a classifier classifies correctly is masked by each cluster of a stage and classified
again. Clusters that keep the ground-truth class are the positive group, the others the negative
one. OUT shows the picture and the top clusters of both groups, ranked by the probability of the
ground-truth class; OUT_clusters.csv lists all. With a folder instead of a picture, OUT is that
table with one line for each picture: the size of both groups. The ground-truth class is --label or
the name of the picture's folder.

For other models OUT shows the assignment of every cluster, as OUT_assignment does for classifiers.
With the PaCa head it shows the clusters of the largest classes beside the segmentation.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from spm_mm.backbones import PaCaViT
from spm_mm.compat import load_checkpoint
from spm_mm.engine import DrawnModel, add_picture_arguments, read_picture_arguments, run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import (
    Panel,
    Recorder,
    Verdict,
    assignment_maps,
    class_colours,
    cluster_masks,
    find_pictures,
    judge_clusters,
    load_model,
    mask_image,
    normalise,
    occurring,
    paint_labels,
    predict_labels,
    read_image,
    save_panels,
    top_clusters,
)

ATLAS_COLUMNS = 10


class Classes:
    """Names of the classes, and the ground-truth class of a picture.

    Args:
        number: How many classes there are.
        names: Their names in order, from the checkpoint or ``--classes``; may be empty.
        folders: Names of the folders of the pictures.
    """

    def __init__(self, number: int, names: Sequence[str], folders: Sequence[str]) -> None:
        self.number = number
        self.names = list(names)
        self.folders = {name: i for i, name in enumerate(names)}
        # As data sets of folders count: by their names, if there is one for each class.
        if not set(folders) <= set(self.folders) and len(set(folders)) == number:
            self.folders = {name: i for i, name in enumerate(sorted(set(folders)))}

    def describe(self, label: int) -> str:
        return self.names[label] if label < len(self.names) else f'class {label}'

    def label(self, path: Path, given: str | None) -> int:
        """Number of the ground-truth class.

        Raises:
            UserError: If it is not given, and the folder's name is no class.
        """
        if given is not None and given.isdigit() and int(given) < self.number:
            return int(given)
        name = path.resolve().parent.name if given is None else given
        if name in self.folders:
            return self.folders[name]
        wanted = f'a number below {self.number} or the name of a class'
        if given is not None:
            raise UserError(f'--label must be {wanted}, got {given!r}')
        raise UserError(
            f'the folder {name!r} of {path} is no class: name the ground-truth class by --label,'
            f' {wanted}, or the folders in the order of the classes by --classes'
        )


def read_names(checkpoint: str | None, classes: Path | None) -> Sequence[str]:
    """Names of the classes: lines of a file, else from the checkpoint, else none."""
    if classes is not None:
        if not classes.is_file():
            raise UserError(f'--classes {classes} does not exist')
        return classes.read_text().splitlines()
    meta = load_checkpoint(checkpoint).get('meta', {}) if checkpoint else {}
    return (meta.get('dataset_meta') or {}).get('classes') or ()


def clustering_module(backbone: PaCaViT, stage: int, block: int | None) -> str:
    """Name of the module that puts out the logits of a block's clusters, before the softmax.

    Args:
        backbone: The backbone.
        stage: Stage from 1.
        block: Block from 1; None for the last one.

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
    if backbone.teacher is not None:
        return f'teacher.to_clusters.{stage - 1}'
    # Blocks without a clustering of their own take that of the last block before them that has one.
    own = [
        j
        for j, part in enumerate(backbone.stages[stage - 1].blocks[:block])
        if part.attn.clustering is not None
    ]
    return f'stages.{stage - 1}.blocks.{own[-1]}.attn.clustering'


def cluster_logits(backbone: PaCaViT, image: Tensor, name: str) -> Tensor:
    """Logits (h, w, M) of the clusters, by the name of :func:`clustering_module`."""
    with torch.no_grad(), Recorder(backbone, modules=[name]) as seen:
        backbone(image)
    logits = seen.outputs[name][0].cpu()
    return logits.permute(1, 2, 0) if name.startswith('teacher.') else logits


class Judge:
    """Judges the clusters of pictures by a classifier."""

    def __init__(
        self, model: nn.Module, drawn: DrawnModel, args: argparse.Namespace, clustering: str
    ) -> None:
        self.model, self.drawn, self.args, self.clustering = model, drawn, args, clustering

    def read(self, path: Path) -> tuple[Tensor, Tensor]:
        """The picture (3, H, W), and the logits (h, w, M) of its clusters."""
        picture, image = read_image(path, self.drawn.cfg, self.args.size)
        logits = cluster_logits(self.model.backbone, image.to(self.args.device), self.clustering)
        return torch.from_numpy(picture).permute(2, 0, 1), logits

    def __call__(
        self, picture: Tensor, logits: Tensor, label: int
    ) -> tuple[Verdict, list[Verdict]]:
        def classify(pictures: Tensor) -> Tensor:
            images = normalise(pictures.to(self.args.device), self.drawn.cfg)
            return self.model.head(self.model.extract_feat(images)).softmax(dim=1).cpu()

        masks = cluster_masks(logits, tuple(picture.shape[1:]))
        return judge_clusters(classify, picture, masks, label, self.args.batch_size)


def judge_picture(judge: Judge, classes: Classes, args: argparse.Namespace) -> None:
    """Figure 6 of one picture, the table of its clusters, and their assignment."""
    label = classes.label(args.pictures, args.label)
    picture, logits = judge.read(args.pictures)
    whole, verdicts = judge(picture, logits, label)
    if not whole.positive:
        raise UserError(
            f'{args.pictures} is {classes.describe(label)}, but the model says'
            f' {classes.describe(whole.label)}: section 3.3 takes images that are classified correctly'
        )
    positive = sum(v.positive for v in verdicts)
    print(f'{classes.describe(label)} at {whole.probability:.3f};', end=' ')
    print(f'positive group: {positive} of {len(verdicts)} clusters')
    masks = cluster_masks(logits, tuple(picture.shape[1:]))
    shown = picture.permute(1, 2, 0).numpy()
    rows = [[Panel(shown, f'picture\n{classes.describe(label)}, {whole.probability:.3f}')]]
    for group in (True, False):
        name = 'positive' if group else 'negative'
        share = sum(v.positive == group for v in verdicts) / len(verdicts)
        row = []
        for verdict in top_clusters(verdicts, group, args.top):
            masked = mask_image(picture, masks[verdict.cluster][None])[0]
            caption = (
                f'{name} ({share:.0%}): cluster {verdict.cluster}\n'
                f'{verdict.probability:.3f}, says {classes.describe(verdict.label)}'
            )
            row.append(Panel(masked.permute(1, 2, 0).numpy(), caption))
        if row:
            rows.append(row)
    save_panels(args.out, rows, judge.drawn.name)
    table = args.out.with_name(f'{args.out.stem}_clusters.csv')
    lines = [
        [v.cluster, 'positive' if v.positive else 'negative', f'{v.probability:.6f}', v.label]
        for v in sorted(verdicts, key=lambda v: -v.probability)
    ]
    write_table(table, ['cluster', 'group', 'probability', 'predicted'], lines)
    atlas = args.out.with_name(f'{args.out.stem}_assignment.png')
    save_atlas(atlas, shown, logits, judge.drawn.name)
    print(f'wrote {args.out}, {table} and {atlas}')


def judge_folder(judge: Judge, classes: Classes, files: list[Path], out: Path) -> None:
    """Count both groups over many pictures; those that are classified wrongly have none."""
    lines, shares = [], []
    for path in track(files, 'pictures'):
        label = classes.label(path, judge.args.label)
        whole, verdicts = judge(*judge.read(path), label)
        positive = sum(v.positive for v in verdicts)
        lines.append([path, label, whole.label, f'{whole.probability:.6f}'])
        if whole.positive:
            lines[-1] += [positive, len(verdicts) - positive]
            shares.append(positive / len(verdicts))
        else:
            lines[-1] += ['', '']
    header = ['picture', 'label', 'predicted', 'probability', 'positive', 'negative']
    write_table(out, header, lines)
    print(f'{len(shares)} of {len(files)} pictures are classified correctly')
    if shares:
        print(f'share of clusters in the positive group: {np.mean(shares):.1%} on average')
    print(f'wrote {out}')


def write_table(path: Path, header: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(lines)


def save_atlas(path: Path, picture: np.ndarray, logits: Tensor, title: str) -> None:
    """Draw the assignment of every cluster over the picture, numbered row by row from 0."""
    heat = assignment_maps(logits, picture.shape[:2]).numpy()
    rows, columns, number = logits.shape
    panels = [Panel(picture, str(i), values, limits=(0, 1)) for i, values in enumerate(heat)]
    lines = [panels[i : i + ATLAS_COLUMNS] for i in range(0, number, ATLAS_COLUMNS)]
    caption = f'{title}, {number} clusters, {rows} x {columns} cells'
    save_panels(path, lines, caption, side=1.2)


def segmentor_panels(
    model: nn.Module,
    image: Tensor,
    picture: np.ndarray,
    number: int,
    colours: dict[str, tuple[int, int, int]],
) -> tuple[list[list[Panel]], dict]:
    """The segmentation, and the clusters of the PaCa head for its largest classes; a legend."""
    with torch.no_grad():
        logits = model.decode_head.forward_with_clusters(model.extract_feat(image))[1][0]
    labels = predict_labels(model, image)
    heat = assignment_maps(logits.permute(1, 2, 0).cpu(), tuple(image.shape[2:]))
    areas = np.bincount(labels.ravel(), minlength=len(heat))
    painted = paint_labels(picture, labels, [*colours.values()])
    row = [Panel(picture, 'picture'), Panel(painted, 'segmentation')]
    for label in areas.argsort()[::-1][:number].tolist():
        if areas[label]:
            caption = (
                f'cluster of {[*colours][label]}\n{areas[label] / labels.size:.0%} of the pixels'
            )
            row.append(Panel(picture, caption, heat[label].numpy()))
            print(caption.replace('\n', ': '))
    return [row], occurring(colours, labels)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_picture_arguments(parser, 'pictures', 'picture, or folder of pictures', beside=False)
    parser.add_argument('--stage', type=int, default=1, help='stage of the clusters, from 1')
    parser.add_argument('--block', type=int, help='block of the stage, from 1; default: the last')
    parser.add_argument('--label', help='ground-truth class, by number or name')
    parser.add_argument(
        '--classes', type=Path, help='file with the folder of each class, a line each, in order'
    )
    parser.add_argument('--top', type=int, default=3, help='clusters of each group, or classes')
    parser.add_argument('--number', type=int, help='how many pictures of a folder; default: all')
    parser.add_argument('--batch-size', type=int, default=16, help='masked pictures at once')
    args = parser.parse_args(argv)
    for option in ('top', 'batch_size'):
        if getattr(args, option) < 1:
            value = getattr(args, option)
            raise UserError(f'--{option.replace("_", "-")} must be at least 1, got {value}')
    if args.pictures.is_dir():
        args.suffix = '.csv'
    (drawn,) = read_picture_arguments(args)
    model = load_model(drawn.cfg, drawn.checkpoint, args.device)
    if not isinstance(model.backbone, PaCaViT):
        raise UserError(
            f'clusters are those of a PaCaViT, this backbone is a {type(model.backbone).__name__}'
        )
    clustering = clustering_module(model.backbone, args.stage, args.block)
    names = read_names(drawn.checkpoint, args.classes)
    if drawn.cfg.default_scope == 'mmpretrain':
        judge = Judge(model, drawn, args, clustering)
        files = find_pictures(args.pictures, args.number)
        if args.pictures.is_dir():
            folders = [p.name for p in args.pictures.iterdir() if p.is_dir()]
            classes = Classes(model.head.num_classes, names, folders)
            judge_folder(judge, classes, files, args.out)
        else:
            judge_picture(judge, Classes(model.head.num_classes, names, ()), args)
        return
    if args.pictures.is_dir():
        raise UserError(f'{args.pictures} is a folder: only a classifier judges many pictures')
    picture, image = read_image(args.pictures, drawn.cfg, args.size)
    image = image.to(args.device)
    if hasattr(getattr(model, 'decode_head', None), 'forward_with_clusters'):
        colours = class_colours(drawn.cfg)
        rows, legend = segmentor_panels(model, image, picture, args.top, colours)
        save_panels(args.out, rows, drawn.name, legend)
    else:
        logits = cluster_logits(model.backbone, image, clustering)
        save_atlas(args.out, picture, logits, drawn.name)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
