"""Calls of mmcv's operators with all their edge cases, for the compiled ones and for ours alike.

Each case is a function of the device that returns named tensors: outputs, and gradients of their sum
with fixed weights. ``ON_CPU`` are those that compiled mmcv 2.1 can do without a GPU.
"""

import contextlib
import sys
import types
from collections.abc import Callable, Iterator

import mmcv.ops as ops
import numpy as np
import torch
from torch import Tensor

Case = Callable[[str], dict[str, Tensor]]
ON_CPU: dict[str, Case] = {}
ON_GPU: dict[str, Case] = {}


@contextlib.contextmanager
def operators(module: types.ModuleType) -> Iterator[None]:
    """Let ``mmcv.ops`` call the operators of another module in the place of ``mmcv._ext``."""
    users = [
        m for n, m in sys.modules.items() if n.startswith('mmcv.ops.') and hasattr(m, 'ext_module')
    ]
    before = [user.ext_module for user in users]
    try:
        for user in users:
            user.ext_module = module
        yield
    finally:
        for user, old in zip(users, before, strict=True):
            user.ext_module = old


class Numbers:
    """Random tensors that are the same everywhere."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float32) -> None:
        self.generator, self.device, self.dtype = np.random.RandomState(0), device, dtype

    def __call__(self, *shape: int, low: float = -1, high: float = 1) -> Tensor:
        values = torch.from_numpy(self.generator.uniform(low, high, shape))
        return values.to(self.device, self.dtype)

    def boxes(self, count: int, high: float = 20) -> Tensor:
        """Boxes, some over the edge of a map of this size, the last three without width or height."""
        corner, size = self(count, 2, low=-3, high=high), self(count, 2, low=1, high=high / 2)
        size[-3, 0] = size[-2, 1] = 0
        size[-1] = 0
        return torch.cat([corner, corner + size], 1)

    def rois(self, count: int) -> Tensor:
        """Boxes of two images, the first of them far outside."""
        boxes = self.boxes(count)
        boxes[0] += 100
        image = torch.arange(count, device=self.device).to(self.dtype)[:, None] % 2
        return torch.cat([image, boxes], 1)


def gradients(function: Callable, *inputs: Tensor) -> dict[str, Tensor]:
    """Output of a function, and the gradients of all its floating-point inputs."""
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    output = function(*leaves)
    weights = torch.linspace(-1, 1, output.numel(), device=output.device, dtype=output.dtype)
    output.backward(weights.view(output.shape))
    found = {f'grad{i}': leaf.grad for i, leaf in enumerate(leaves) if leaf.grad is not None}
    return {'output': output.detach(), **found}


def case(
    table: dict[str, Case], name: str, dtype: torch.dtype = torch.float32, **options
) -> Callable[[Callable], Callable]:
    """Enter a function of the random numbers as a case with these options."""

    def enter(function: Callable) -> Callable:
        table[name] = lambda device: function(Numbers(device, dtype), **options)
        return function

    return enter


def nms(random: Numbers, count: int = 40, **options) -> dict[str, Tensor]:
    boxes = random.boxes(count) if count else random(0, 4)
    dets, index = ops.nms(boxes, random(count, low=0), **options)
    return {'dets': dets, 'index': index}


def soft_nms(random: Numbers, count: int = 40, **options) -> dict[str, Tensor]:
    boxes = random.boxes(count)[: count - 3] if count else random(0, 4)
    dets, index = ops.soft_nms(boxes, random(len(boxes), low=0), **options)
    return {'dets': dets, 'index': index}


def nms_match(random: Numbers, iou_threshold: float) -> dict[str, Tensor]:
    dets = torch.cat([random.boxes(40), random(40, 1, low=0)], 1)
    groups = ops.nms_match(dets, iou_threshold)
    return {'members': torch.cat(groups), 'sizes': torch.tensor([len(g) for g in groups])}


def bbox_overlaps(random: Numbers, **options) -> dict[str, Tensor]:
    first, second = random.boxes(9)[:-3], random.boxes(9)[:-3]
    return {'ious': ops.bbox_overlaps(first, second, **options)}


def roi_align(random: Numbers, count: int = 8, **options) -> dict[str, Tensor]:
    maps = random(2, 3, 10, 12)
    rois = random.rois(count) if count else random(0, 5)
    options = dict(output_size=(3, 2), spatial_scale=0.5) | options
    return gradients(lambda maps: ops.RoIAlign(**options)(maps, rois), maps)


def deform_conv(
    random: Numbers, stride: int, dilation: int, groups: int, deform_groups: int
) -> dict[str, Tensor]:
    size = tuple((n + 2 - 2 * dilation - 1) // stride + 1 for n in (7, 8))
    maps, weight = random(2, 4, 7, 8), random(6, 4 // groups, 3, 3)
    offset = random(2, deform_groups * 18, *size, low=-3, high=3)
    options = stride, 1, dilation, groups, deform_groups
    return gradients(lambda x, o, w: ops.deform_conv2d(x, o, w, *options), maps, offset, weight)


def modulated_deform_conv(
    random: Numbers, stride: int, groups: int, deform_groups: int, bias: bool
) -> dict[str, Tensor]:
    size = tuple((n - 1) // stride + 1 for n in (7, 8))
    inputs = [
        random(2, 4, 7, 8),
        random(2, deform_groups * 18, *size, low=-3, high=3),
        random(2, deform_groups * 9, *size, low=0),
        random(6, 4 // groups, 3, 3),
        *([random(6)] if bias else []),
    ]

    def convolve(x: Tensor, o: Tensor, m: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return ops.modulated_deform_conv2d(x, o, m, w, b, stride, 1, 1, groups, deform_groups)

    return gradients(convolve, *inputs)


def psa_mask(random: Numbers, psa_type: str, mask_size: tuple[int, int]) -> dict[str, Tensor]:
    module = ops.PSAMask(psa_type, mask_size)
    return gradients(module, random(2, mask_size[0] * mask_size[1], 3, 4))


def sigmoid_focal_loss(random: Numbers, weighted: bool, **options) -> dict[str, Tensor]:
    target = torch.tensor([0, 3, 1, 2, 2], device=random.device)
    weight = random(4, low=0) if weighted else None
    logits = random(5, 4, low=-8, high=8)
    return gradients(lambda x: ops.SigmoidFocalLoss(weight=weight, **options)(x, target), logits)


def softmax_focal_loss(random: Numbers, weighted: bool, **options) -> dict[str, Tensor]:
    target = torch.tensor([0, 3, 1, 2, 2], device=random.device)
    weight = random(4, low=0) if weighted else None
    logits = random(5, 4, low=-8, high=8)
    loss = ops.SoftmaxFocalLoss(weight=weight, reduction='sum', **options)
    return gradients(lambda x: loss(x.clone(), target), logits)


def roi_pool(random: Numbers) -> dict[str, Tensor]:
    maps, rois = random(2, 3, 10, 12), random.rois(8)
    return gradients(lambda maps: ops.roi_pool(maps, rois, (3, 2), 0.5), maps)


def deform_roi_pool(random: Numbers, sampling_ratio: int, shifted: bool) -> dict[str, Tensor]:
    maps, rois = random(2, 3, 10, 12), random.rois(8)[:5]

    def pool(maps: Tensor, *offset: Tensor) -> Tensor:
        shift = offset[0] if offset else None
        return ops.deform_roi_pool(maps, rois, shift, (3, 2), 0.5, sampling_ratio, 0.1)

    # Compiled mmcv extrapolates the shift's gradient over the edge: these boxes stay inside.
    rois[:, 1:] = rois[:, 1:].clamp(3, 15) + torch.tensor([0, 0, 3, 3], device=random.device)
    return gradients(pool, maps, *([random(5, 2, 3, 2)] if shifted else []))


def carafe(random: Numbers, naive: bool) -> dict[str, Tensor]:
    inputs = random(2, 4, 3, 4), random(2, 2 * 9, 6, 8)
    function = ops.carafe_naive if naive else ops.carafe
    return gradients(lambda x, m: function(x, m, 3, 2, 2), *inputs)


def border_align(random: Numbers) -> dict[str, Tensor]:
    maps, boxes = random(2, 8, 6, 7), random.boxes(10, high=6).view(2, 5, 4)
    return gradients(lambda maps: ops.border_align(maps, boxes, 4), maps)


def masked_conv2d(random: Numbers) -> dict[str, Tensor]:
    maps, mask = random(1, 4, 6, 7), random(1, 6, 7)
    return {'output': ops.masked_conv2d(maps, mask, random(5, 4, 3, 3), random(5), 1)}


def deform_attention(random: Numbers) -> dict[str, Tensor]:
    shapes = torch.tensor([[4, 5], [2, 3]], device=random.device)
    starts = torch.tensor([0, 20], device=random.device)
    attend = ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply
    inputs = (
        random(2, 26, 2, 4),
        random(2, 5, 2, 2, 4, 2, low=-0.2, high=1.2),
        random(2, 5, 2, 2, 4, low=0),
    )
    return gradients(lambda v, p, w: attend(v, shapes, starts, p, w, 64), *inputs)


for offset in (0, 1):
    case(ON_CPU, f'nms_offset{offset}', iou_threshold=0.3, offset=offset)(nms)
    case(ON_CPU, f'soft_nms_offset{offset}', offset=offset)(soft_nms)
    for mode in ('iou', 'iof'):
        for aligned in (False, True):
            name = f'bbox_overlaps_{mode}_{"aligned" if aligned else "pairs"}_offset{offset}'
            case(ON_CPU, name, mode=mode, aligned=aligned, offset=offset)(bbox_overlaps)
case(ON_CPU, 'nms_empty', iou_threshold=0.3, count=0)(nms)
case(ON_CPU, 'nms_limits', iou_threshold=0.5, score_threshold=0.3, max_num=7)(nms)
case(ON_CPU, 'soft_nms_naive', method='naive', min_score=0.1)(soft_nms)
case(ON_CPU, 'soft_nms_gaussian', method='gaussian', min_score=0.2)(soft_nms)
case(ON_CPU, 'soft_nms_empty', count=0)(soft_nms)
case(ON_CPU, 'nms_match', iou_threshold=0.3)(nms_match)
for aligned in (False, True):
    for ratio in (0, 2):
        for mode in ('avg', 'max'):
            name = f'roi_align_{mode}_{"aligned" if aligned else "legacy"}_ratio{ratio}'
            options = dict(aligned=aligned, sampling_ratio=ratio, pool_mode=mode)
            case(ON_CPU, name, **options)(roi_align)
case(ON_CPU, 'roi_align_empty', count=0)(roi_align)
case(ON_CPU, 'roi_align_half', dtype=torch.float16, sampling_ratio=2)(roi_align)
for name, options in {
    'plain': (1, 1, 1, 1),
    'strided': (2, 1, 2, 1),
    'dilated': (1, 2, 1, 2),
    'groups': (1, 1, 2, 2),
}.items():
    keys = 'stride', 'dilation', 'groups', 'deform_groups'
    case(ON_CPU, f'deform_conv_{name}', **dict(zip(keys, options, strict=True)))(deform_conv)
for name, options in {'plain': (1, 1, 1, True), 'groups': (2, 2, 2, False)}.items():
    options = dict(zip(('stride', 'groups', 'deform_groups', 'bias'), options, strict=True))
    case(ON_CPU, f'modulated_deform_conv_{name}', **options)(modulated_deform_conv)
for psa_type in ('collect', 'distribute'):
    for size in ((3, 5), (5, 7)):
        name = f'psa_mask_{psa_type}_{size[0]}'
        case(ON_CPU, name, psa_type=psa_type, mask_size=size)(psa_mask)

for weighted in (False, True):
    name = 'weighted' if weighted else 'plain'
    for reduction in ('none', 'mean'):
        options = dict(gamma=2.0, alpha=0.25, weighted=weighted)
        name_of_case = f'sigmoid_focal_loss_{name}_{reduction}'
        case(ON_GPU, name_of_case, reduction=reduction, **options)(sigmoid_focal_loss)
    case(ON_GPU, f'softmax_focal_loss_{name}', **options)(softmax_focal_loss)
case(ON_GPU, 'roi_pool')(roi_pool)
for ratio in (0, 2):
    for shifted in (False, True):
        name = f'deform_roi_pool_ratio{ratio}{"_shifted" if shifted else ""}'
        case(ON_GPU, name, sampling_ratio=ratio, shifted=shifted)(deform_roi_pool)
case(ON_GPU, 'carafe', naive=False)(carafe)
case(ON_GPU, 'border_align')(border_align)
case(ON_GPU, 'masked_conv2d')(masked_conv2d)
case(ON_GPU, 'deform_attention')(deform_attention)
