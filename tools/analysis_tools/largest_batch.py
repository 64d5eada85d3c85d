"""The largest batch of a config's whole model that trains in a given memory.

Takes training steps on random images with random ground truth and measures their peak: weights,
gradients, AdamW's two moments, activations and the operators' own buffers. What is allocated outside of
PyTorch (CUDA's context, about half a GiB; libraries) comes on top: leave it room. The peak of
large batches grows linearly, so two batches tell the line, and the largest one is read off it.
--confirm then runs that batch and one image more, where this machine has the memory, and goes on
from there until the limit is between.

    python tools/analysis_tools/largest_batch.py \\
        configs/mmdet/mask-rcnn_pvt_tiny_spm_1x_coco.py --memory 24 --size 800 1333
"""

import argparse
import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from spm_mm.benchmark.measure import peak_memory
from spm_mm.engine import add_config, image_channels, load_config, run_tool
from spm_mm.errors import UserError

SIZES = {'mmdet': (800, 1333), 'mmseg': (512, 512), 'mmpretrain': (224, 224)}
OBJECTS = 7
"""Of an image, about as many as COCO has."""


def make_batch(
    cfg: Config, batch: int, size: tuple[int, int], device: str, channels: int = 3
) -> dict:
    """Random images with the ground truth that the framework's model wants."""
    make = {'mmdet': _detection, 'mmseg': _segmentation, 'mmpretrain': _classification}
    samples = [make[cfg.default_scope](cfg, size) for _ in range(batch)]
    inputs = torch.randn(batch, channels, *size, device=device)
    return dict(inputs=inputs, data_samples=[sample.to(device) for sample in samples])


def _detection(cfg: Config, size: tuple[int, int]):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    corner = torch.rand(OBJECTS, 2) * 0.6
    boxes = torch.cat((corner, corner + 0.3), dim=1) * torch.tensor([size[1], size[0]] * 2)
    masks = np.zeros((OBJECTS, *size), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    sample = DetDataSample(
        metainfo=dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
            scale_factor=(1.0, 1.0), img_id=0, img_path='',
        )
    )  # fmt: skip
    labels = torch.zeros(OBJECTS, dtype=torch.long)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=BitmapMasks(masks, *size))
    return sample


def _segmentation(cfg: Config, size: tuple[int, int]):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
    labels = torch.randint(0, cfg.model.decode_head.num_classes, (1, *size))
    sample.gt_sem_seg = PixelData(data=labels)
    return sample


def _classification(cfg: Config, size: tuple[int, int]):
    from mmpretrain.structures import DataSample

    return DataSample(metainfo=dict(img_shape=size)).set_gt_label(0)


def peak_of_a_step(model: nn.Module, cfg: Config, batch: int, size: tuple[int, int]) -> int:
    """Bytes that weights, moments and one step take at most."""
    device = str(next(model.parameters()).device.type)
    data = make_batch(cfg, batch, size, device, image_channels(model))

    def step() -> None:
        model.zero_grad(set_to_none=True)
        losses = model(**data, mode='loss')
        model.parse_losses(losses)[0].backward()

    model.zero_grad(set_to_none=True)
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    return weights + 2 * trained + data['inputs'].nbytes + peak_memory(step, device)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument('--memory', type=float, required=True, help='GiB')
    parser.add_argument(
        '--size', nargs=2, type=int, metavar=('H', 'W'), help=f'pixels; by the framework, {SIZES}'
    )
    parser.add_argument('--measure', nargs=2, type=int, default=(1, 2), help='default 1 2')
    parser.add_argument('--confirm', action='store_true', help='run the batch that was found')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    args = parser.parse_args(argv)
    low, high = args.measure
    if args.memory <= 0 or not 1 <= low < high or min(args.size or (1,)) < 1:
        raise UserError('--memory and --size must be positive, --measure two rising batches')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda needs a GPU that PyTorch sees')
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    cfg = load_config(args)
    if cfg.get('default_scope') not in SIZES:
        raise UserError(f'{args.config} belongs to none of {", ".join(SIZES)}')
    size = tuple(args.size) if args.size else SIZES[cfg.default_scope]
    init_default_scope(cfg.default_scope)
    # Batch norms over processes need processes.
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).to(args.device).train()

    def measured(batch: int) -> float:
        peak = peak_of_a_step(model, cfg, batch, size) / 2**30
        print(f'batch {batch}: {peak:.4g} GiB', flush=True)
        return peak

    small, large = measured(low), measured(high)
    per_image = (large - small) / (high - low)
    fixed = small - low * per_image
    largest = int((args.memory - fixed) // per_image)
    print(f'{fixed:.2f} GiB and {per_image:.2f} GiB for each image of {size[0]} x {size[1]}')
    if largest < 1:
        print(f'not one image fits {args.memory:g} GiB')
        return
    print(f'largest batch in {args.memory:g} GiB, read off: {largest}')
    if args.confirm:
        confirm(measured, largest, args.memory)


def confirm(measured: Callable[[int], float], batch: int, memory: float) -> None:
    """Go on from ``batch`` by the line through it and one image more, until the limit is between."""
    for _ in range(10):
        fits, over = measured(batch), measured(batch + 1)
        if fits <= memory < over:
            print(f'confirmed: {batch} images fit, {batch + 1} do not')
            return
        steps = math.floor((memory - fits) / (over - fits)) if over > fits else 1
        batch = max(1, batch + steps)
    print(f'not confirmed: the last batch was {batch}')


if __name__ == '__main__':
    run_tool(main)
