"""Export a trained model to ONNX (OUT.onnx) or to a file of torch.export (OUT.pt2), and check it.

Classifiers, segmentors with one decode head and backbones (--backbone) are exported whole; one-stage
detectors with anchors up to boxes and scores before non-maximum suppression, or with it (--nms);
two-stage detectors (Faster, Mask and Cascade R-CNN) with it. The file then runs on random images and on
--images, beside the model; the command fails if they differ by more than --tolerance.
docs/guides/deploy.md shows how to use the file.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.deploy import (
    build_deployed,
    compare,
    random_images,
    save_onnx,
    save_program,
    smallest_size,
    trace,
)
from spm_mm.deploy.check import runner_of
from spm_mm.engine import add_config, load_config, run_tool
from spm_mm.engine.complexity import default_shape
from spm_mm.errors import UserError

TOLERANCES = {'float32': 1e-3, 'float16': 3e-2, 'int8': float('inf')}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument('checkpoint', help="file with the weights; 'none' for random ones")
    parser.add_argument('out', type=Path, help='OUT.onnx or OUT.pt2')
    parser.add_argument(
        '--size', nargs=2, type=int, metavar=('H', 'W'),
        help='size of the images; default that of the config',
    )  # fmt: skip
    parser.add_argument('--batch', type=int, default=1, help='images at a time, default 1')
    parser.add_argument(
        '--dynamic', action='store_true',
        help='any batch, height and width from the smallest that is printed; --size is an example',
    )  # fmt: skip
    parser.add_argument('--half', action='store_true', help='compute in float16')
    parser.add_argument(
        '--int8', action='store_true',
        help='quantize the weights of a classifier in ONNX to 8 bits; prints how many classes agree',
    )  # fmt: skip
    parser.add_argument('--backbone', action='store_true', help='export the backbone alone')
    parser.add_argument(
        '--normalize', action='store_true',
        help='the file takes RGB images from 0 to 255 and normalizes them itself',
    )  # fmt: skip
    parser.add_argument(
        '--argmax', action='store_true', help='the file puts out classes in place of scores'
    )
    parser.add_argument(
        '--nms', action='store_true',
        help="the file puts out a detector's boxes, scores and classes of one image, by model.test_cfg"
        ' of the config: change its score_thr, nms.iou_threshold, max_per_img by --cfg-options',
    )  # fmt: skip
    parser.add_argument(
        '--images', nargs='+', type=Path, metavar='FILE', default=[], help='images to compare on'
    )
    parser.add_argument(
        '--tolerance', type=float,
        help='largest difference allowed, relative to the largest number of an output; default'
        f' {TOLERANCES["float32"]}, with --half {TOLERANCES["float16"]}, with --int8 none',
    )  # fmt: skip
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Refuse what does not fit together before anything is built.

    Raises:
        UserError: With what is wrong.
    """
    if args.out.suffix not in ('.onnx', '.pt2'):
        raise UserError(f'OUT must end in .onnx or .pt2, got {args.out}')
    if not args.out.parent.is_dir():
        raise UserError(f'the folder of OUT does not exist: {args.out.parent}')
    if args.batch < 1 or (args.size and min(args.size) < 1):
        raise UserError('--batch and --size must be at least 1')
    if args.nms and (args.batch > 1 or args.dynamic):
        raise UserError('--nms is for one image of one size: leave out --batch and --dynamic')
    if args.int8 and (args.out.suffix != '.onnx' or args.half or args.argmax):
        raise UserError('--int8 is for .onnx with scores, without --half and --argmax')


def read_images(paths: Sequence[Path], size: tuple[int, int], raw: bool) -> list[Tensor]:
    """Photographs at the size of the graph, as the file takes them.

    Raises:
        UserError: If a file is no image.
    """
    import cv2

    images = []
    for path in paths:
        pixels = cv2.imread(str(path))
        if pixels is None:
            raise UserError(f'{path} is no image that OpenCV reads')
        image = torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1])).float()
        image = F.interpolate(image.permute(2, 0, 1)[None], size, mode='bilinear')
        images.append(image if raw else (image - image.mean()) / image.std())
    return images


def quantize(path: Path) -> None:
    """Replace the weights of matrix products in an ONNX file by 8-bit ones."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_suffix('.float32.onnx')
    path.rename(whole)
    try:
        quantize_dynamic(
            whole, path, weight_type=QuantType.QInt8, op_types_to_quantize=['MatMul', 'Gemm']
        )
    finally:
        whole.unlink()


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    check(args)
    cfg = load_config(args)
    checkpoint = None if args.checkpoint == 'none' else args.checkpoint
    options = (args.normalize, args.argmax, args.backbone, args.nms)
    model = build_deployed(cfg, checkpoint, *options)
    if args.int8 and model.kind != 'classifier':
        raise UserError(f'--int8 is for classifiers, this is a {model.kind}')
    size = tuple(args.size or default_shape(cfg))
    divisor = getattr(getattr(model.model, 'data_preprocessor', None), 'pad_size_divisor', 1)
    if args.normalize and 'detector' in model.kind and any(side % divisor for side in size):
        raise UserError(
            f'--size {size[0]} {size[1]} must be divisible by pad_size_divisor={divisor} of the config'
            ' with --normalize: MMDetection pads after it has normalized'
        )
    # An example of one image would fix the batch: PyTorch takes 1 for a number of its own kind.
    example = random_images(
        max(2, args.batch) if args.dynamic else args.batch, size, args.normalize
    )
    photographs = read_images(args.images, size, args.normalize)
    exact = model
    if args.half:
        exact = build_deployed(cfg, checkpoint, *options)
        exact.load_state_dict(model.state_dict())
        model.model.half()
    print(f'tracing a {model.kind} at {size[0]} x {size[1]}', flush=True)
    program = trace(model, example, args.dynamic)
    smallest = smallest_size(program)
    if args.dynamic:
        print(f'takes images of {smallest[0]} x {smallest[1]} and larger')
    part = args.out.with_name(f'.{args.out.name}')
    try:
        if args.out.suffix == '.pt2':
            part = part.with_suffix('.pt2')
            save_program(program, part)
        else:
            notes = dict(
                kind=model.kind,
                normalized_inside=args.normalize,
                size=size,
                dynamic=args.dynamic,
                smallest_size=smallest,
            )
            save_onnx(program, part, model.output_names, notes)
            if args.int8:
                quantize(part)
        batches = [example, *photographs]
        if args.dynamic:
            larger = (size[0] + 37, size[1] + 11)
            others = ((1, larger), (3, smallest), (2, (smallest[0], larger[1])))
            batches += [random_images(n, other, args.normalize) for n, other in others]
        elif args.batch > 1:
            batches[1:] = [image.expand(args.batch, -1, -1, -1) for image in batches[1:]]
        has_classes = model.kind in ('classifier', 'segmentor') and not args.argmax
        found = compare(exact, runner_of(part), batches, has_classes, args.nms)
        kind = 'int8' if args.int8 else 'float16' if args.half else 'float32'
        tolerance = TOLERANCES[kind] if args.tolerance is None else args.tolerance
        what = 'share of other classes' if args.argmax else 'greatest difference'
        print(f'{what} on {len(batches)} batches: {found.largest:.1e} (allowed {tolerance:.1e})')
        if args.nms:
            print(f'boxes compared: {found.numbers // 4}')
            if not found.numbers:
                print(
                    'WARNING: no box passed the score_thr, so nothing was compared: give --images'
                )
        if found.agreement is not None:
            print(f'same class: {found.agreement:.2%}')
        print(
            f'time of {len(example)} images: model {1e3 * found.model_seconds:.1f} ms,'
            f' file {1e3 * found.file_seconds:.1f} ms'
        )
        if not found.largest <= tolerance:
            raise UserError(
                f'the file differs from the model by {found.largest:.1e}: nothing is written'
            )
        part.replace(args.out)
    finally:
        part.unlink(missing_ok=True)
    print(f'{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB')


if __name__ == '__main__':
    run_tool(main)
