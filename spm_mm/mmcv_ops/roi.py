"""Features of boxes: RoIAlign, RoIPool, deformable RoI pooling, border alignment.

Boxes (RoIs) are (R, 5): index of the image, then x1, y1, x2, y2 in image pixels, which
``spatial_scale`` brings to the scale of the feature maps (B, C, H, W). Results are (R, C,
pooled height, pooled width). Half precision is computed in float32.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.mmcv_ops.operator import CHUNK, full, gradients, operator, vision

MAXIMUM, AVERAGE = 0, 1


def _corners(y: Tensor, x: Tensor, height: int, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The four pixels around each place, as indices of a flat map, and their bilinear weights.

    A place up to one pixel outside the map counts as the nearest on its edge; further outside, all
    weights are 0.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.detach().floor(), x.detach().floor()
    for row, weight_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, weight_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            pixel = row.long().clamp(max=height - 1) * width + column.long().clamp(max=width - 1)
            yield pixel, weight_y * weight_x * inside


def _sample(maps: Tensor, index: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear samples (*shape, C) of the maps (K, C, H, W) of an index, at places of any shape."""
    _, channels, height, width = maps.shape
    pixels = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    total = 0
    for pixel, weight in _corners(y, x, height, width):
        pixel = pixel + index * height * width
        values = pixels.index_select(0, pixel.flatten()).view(*pixel.shape, channels)
        total = total + values * weight[..., None]
    return total


def _spread(grad: Tensor, maps: Tensor, plane: Tensor, y: Tensor, x: Tensor) -> None:
    """Add a gradient of single samples to the maps; ``plane`` counts through all their channels."""
    height, width = maps.shape[2:]
    for pixel, weight in _corners(y, x, height, width):
        pixel = (pixel + plane * height * width).expand(grad.shape)
        maps.view(-1).index_add_(0, pixel.flatten(), (grad * weight).flatten())


def _ticks(start: Tensor, length: Tensor, bins: int, sampling_ratio: int) -> tuple[Tensor, Tensor]:
    """Sample places in every bin along one side of R boxes.

    Returns:
        The places (R, bins, S), and which of the S exist (R, S): ``sampling_ratio``, or if that is 0 as
        many as a bin has pixels, rounded up.
    """
    if sampling_ratio > 0:
        count, most = torch.full_like(length, sampling_ratio), sampling_ratio
    else:
        count = (length / bins).ceil().clamp(min=0)
        most = int(count.max()) if len(count) else 0
    steps = torch.arange(most, device=start.device)
    within = ((steps + 0.5) / count.clamp(min=1)[:, None])[:, None]
    places = within + torch.arange(bins, device=start.device)[:, None]
    return start[:, None, None] + (length / bins)[:, None, None] * places, steps < count[:, None]


def _sample_bins(
    input: Tensor,
    rois: Tensor,
    shifts: Tensor | None,
    bins: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples in every bin of every box.

    ``shifts`` (R, 2, *bins) moves the samples of each bin by shares of the box's width and height.

    Returns:
        The samples (R, *bins, S, C), which exist (R, 1, 1, S, 1), and their y and x (R, *bins, S).
    """
    corners = rois[:, 1:] * spatial_scale - 0.5 * aligned
    (left, top), size = corners[:, :2].unbind(1), corners[:, 2:] - corners[:, :2]
    width, height = (size if aligned else size.clamp(min=1)).unbind(1)
    y, exists_y = _ticks(top, height, bins[0], sampling_ratio)
    x, exists_x = _ticks(left, width, bins[1], sampling_ratio)
    y, x = y[:, :, None, :, None], x[:, None, :, None]
    if shifts is not None:
        x = x + (width[:, None, None] * shifts[:, 0])[..., None, None]
        y = y + (height[:, None, None] * shifts[:, 1])[..., None, None]
    y, x = (t.flatten(3) for t in torch.broadcast_tensors(y, x))
    samples = _sample(input, rois[:, 0].long()[:, None, None, None], y, x)
    exists = (exists_y[:, :, None] & exists_x[:, None]).flatten(1)
    return samples, exists[:, None, None, :, None], y, x


def _largest(input: Tensor, rois: Tensor, *options) -> tuple[Tensor, Tensor, Tensor]:
    """Largest sample of every bin (R, C, *bins), and its y and x; 0 and outside in an empty bin."""
    samples, exists, y, x = _sample_bins(input, rois, None, *options)
    # A place of its own stands for an empty bin.
    samples = F.pad(samples.masked_fill(~exists, -torch.inf), (0, 0, 0, 1), value=-torch.inf)
    value, index = samples.max(3)
    empty = value == -torch.inf
    y, x = (F.pad(t, (0, 1), value=-2.0).gather(3, index).masked_fill(empty, -2.0) for t in (y, x))
    return tuple(t.permute(0, 3, 1, 2) for t in (value.masked_fill(empty, 0), y, x))


def _chunks(input: Tensor, rois: Tensor, bins: Sequence[int], sampling_ratio: int) -> list[slice]:
    """Parts of the boxes with at most ``CHUNK`` elements of samples, one box at least.

    At ratio 0, 16 samples a bin are reckoned with.
    """
    elements = input.shape[1] * bins[0] * bins[1] * (sampling_ratio**2 or 16)
    size = max(1, CHUNK // max(1, elements))
    return [slice(start, start + size) for start in range(0, len(rois), size)]


@operator
def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write RoIAlign (He et al. 2017): of bilinear samples, the largest or the average.

    ``pool_mode`` is 0 or 1 for these; a bin has ``sampling_ratio`` squared samples, at 0 one for every
    pixel; ``aligned`` shifts by half a pixel. A bin without samples is 0, also where the compiled
    operator gives -10000.
    """
    input, boxes, bins = full(input).contiguous(), full(rois), (aligned_height, aligned_width)
    if pool_mode == AVERAGE:
        boxes = boxes.to(input.dtype)
        options = spatial_scale, *bins, sampling_ratio, aligned
        output.copy_(vision.roi_align(input, boxes, *options))
        return
    for part in _chunks(input, rois, bins, sampling_ratio):
        found = _largest(input, boxes[part], bins, spatial_scale, sampling_ratio, aligned)
        for target, value in zip((output, argmax_y, argmax_x), found, strict=True):
            target[part] = value.to(target.dtype)


@operator
def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of the maps, for the largest from where it was found."""
    grad = full(grad_output).contiguous()
    channels = grad_input.shape[1]
    if pool_mode == AVERAGE:
        options = spatial_scale, aligned_height, aligned_width, *grad_input.shape
        grad_input.copy_(
            vision._roi_align_backward(
                grad, full(rois).to(grad.dtype), *options, sampling_ratio, aligned
            )
        )
        return
    total = torch.zeros_like(full(grad_input), memory_format=torch.contiguous_format)
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    _spread(grad, total, plane[..., None, None], full(argmax_y), full(argmax_x))
    grad_input.copy_(total)


@operator
def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write RoIPool as mmcv defines it: the largest pixel of a bin whose edges are not rounded first.

    ``argmax`` takes the pixel's index in its map, -1 in an empty bin, whose value is 0.
    """
    (height, width), boxes = input.shape[2:], full(rois)
    low = boxes[:, 1:3] * spatial_scale
    size = (boxes[:, 3:] + 1) * spatial_scale - low
    for part in _chunks(input, rois, (height, width), 1):
        maps = full(input)[rois[part, 0].long()]
        rows = _pixels(low[part, 1], size[part, 1], pooled_height, height)
        columns = _pixels(low[part, 0], size[part, 0], pooled_width, width)
        # The largest of each row within a bin's columns, then of the rows within the bin.
        best = [maps.masked_fill(~c[:, None, None], -torch.inf).max(3) for c in columns.unbind(1)]
        values, places = (torch.stack(t, 3) for t in zip(*best, strict=True))
        best = [values.masked_fill(~r[:, None, :, None], -torch.inf).max(2) for r in rows.unbind(1)]
        values, row = (torch.stack(t, 2) for t in zip(*best, strict=True))
        index = row * width + places.gather(2, row)
        full_bin = rows.any(2)[:, :, None] & columns.any(2)[:, None]
        full_bin &= (size[part] > 0).all(1)[:, None, None]
        output[part] = values.masked_fill(~full_bin[:, None], 0).to(output.dtype)
        argmax[part] = index.masked_fill(~full_bin[:, None], -1).to(argmax.dtype)


def _pixels(low: Tensor, size: Tensor, bins: int, pixels: int) -> Tensor:
    """Which pixels of one side each bin of each box covers, at least in part (R, bins, pixels)."""
    edges = low[:, None] + (size / bins)[:, None] * torch.arange(bins + 1, device=low.device)
    index = torch.arange(pixels, device=low.device)
    return (index >= edges[:, :-1, None].floor()) & (index < edges[:, 1:, None].ceil())


@operator
def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the gradient of the maps: that of each bin, at its largest pixel."""
    channels, pixels = grad_input.shape[1], grad_input.shape[2] * grad_input.shape[3]
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    index = plane[..., None, None] * pixels + argmax.clamp(min=0)
    total = full(grad_output).new_zeros(grad_input.numel())
    total.index_add_(0, index.flatten(), (full(grad_output) * (argmax >= 0)).flatten())
    grad_input.copy_(total.view(grad_input.shape))


@operator
def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Write deformable RoI pooling (Dai et al. 2017): RoIAlign's average with shifted bins.

    ``offset`` (R, 2, pooled height, pooled width), x before y, times ``gamma`` and the box's size is
    the shift; empty for none.
    """
    input, boxes, bins = full(input), full(rois), (pooled_height, pooled_width)
    for part in _chunks(input, rois, bins, sampling_ratio):
        shifts = full(offset)[part] * gamma if offset.numel() else None
        output[part] = _average(input, boxes[part], shifts, bins, spatial_scale, sampling_ratio).to(
            output.dtype
        )


def _average(
    input: Tensor,
    rois: Tensor,
    shifts: Tensor | None,
    bins: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
) -> Tensor:
    """Average of the samples of every bin, (R, C, *bins)."""
    options = bins, spatial_scale, sampling_ratio, True
    samples, exists, _, _ = _sample_bins(input, rois, shifts, *options)
    return ((samples * exists).sum(3) / exists.sum(3).clamp(min=1)).permute(0, 3, 1, 2)


@operator
def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Write the gradients of maps and shifts."""
    input, boxes, bins = full(input), full(rois), (pooled_height, pooled_width)
    total = torch.zeros_like(input)
    for part in _chunks(input, rois, bins, sampling_ratio):

        def pool(input: Tensor, *offset: Tensor, part: slice = part) -> Tensor:
            shifts = offset[0] * gamma if offset else None
            return _average(input, boxes[part], shifts, bins, spatial_scale, sampling_ratio)

        inputs = [input, full(offset)[part]] if offset.numel() else [input]
        grads = gradients(pool, inputs, full(grad_output)[part])
        total += grads[0]
        if offset.numel():
            grad_offset[part] = grads[1].to(grad_offset.dtype)
    grad_input.copy_(total)


def _border_places(boxes: Tensor, steps: Tensor, pool_size: int) -> tuple[Tensor, Tensor]:
    """y and x after ``steps`` of the ``pool_size`` along each border of boxes (B, N, 4).

    ``steps`` broadcasts with (B, 1, N, 4): top and left start at x1, y1, bottom and right go back from
    x2, y2.
    """
    x1, y1, x2, y2 = boxes[:, None].unbind(3)
    zero = torch.zeros_like(x1)
    step_x, step_y = (x2 - x1) / pool_size, (y2 - y1) / pool_size
    x = torch.stack([x1, x1, x2, x2], 3) + steps * torch.stack([step_x, zero, -step_x, zero], 3)
    y = torch.stack([y1, y1, y2, y2], 3) + steps * torch.stack([zero, step_y, zero, -step_y], 3)
    return y, x


@operator
def border_align_forward(
    input: Tensor, boxes: Tensor, output: Tensor, argmax_idx: Tensor, pool_size: int
) -> None:
    """Write border alignment (Qiu et al. 2020): the largest of pool_size + 1 samples on each border.

    ``input`` (B, 4 x C, H, W) has the channels of the top, left, bottom and right border in this order,
    ``boxes`` (B, N, 4) are in its pixels, ``output`` is (B, C, N, 4).
    """
    maps = full(input).unflatten(1, (4, -1)).flatten(0, 1)
    steps = torch.arange(pool_size + 1, device=input.device)[:, None, None]
    y, x = _border_places(full(boxes), steps, pool_size)
    index = torch.arange(len(maps), device=input.device).view(-1, 1, 1, 4)
    value, step = _sample(maps, index, y, x).max(1)
    output.copy_(value.permute(0, 3, 1, 2))
    argmax_idx.copy_(step.permute(0, 3, 1, 2))


@operator
def border_align_backward(
    grad_output: Tensor, boxes: Tensor, argmax_idx: Tensor, grad_input: Tensor, pool_size: int
) -> None:
    """Write the gradient of the maps, at the largest sample of each border."""
    batch, channels = argmax_idx.shape[:2]
    y, x = _border_places(full(boxes), argmax_idx, pool_size)
    total = torch.zeros_like(full(grad_input), memory_format=torch.contiguous_format)
    border = torch.arange(4 * batch, device=boxes.device).view(batch, 1, 1, 4)
    plane = border * channels + torch.arange(channels, device=boxes.device)[:, None, None]
    _spread(full(grad_output), total, plane, y, x)
    grad_input.copy_(total)
