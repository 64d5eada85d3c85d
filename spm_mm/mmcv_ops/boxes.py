"""Boxes (x1, y1, x2, y2): overlaps and suppression. Widths are x2 - x1 + offset, offset is 0 or 1."""

import numpy as np
import torch
from torch import Tensor

from spm_mm.mmcv_ops.operator import full, operator, vision


@operator
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes kept by greedy suppression above an IoU, best score first.

    Of equal scores the box with the lower index comes first. A box of zero size overlaps none.
    """
    boxes = full(boxes)
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    # The compiled operators compare in float32.
    threshold = float(np.float32(iou_threshold))
    return vision.nms(boxes, scores.to(boxes.dtype), threshold)


def _overlaps(boxes: np.ndarray, one: int, others: np.ndarray, offset: int = 0) -> np.ndarray:
    """IoU of one box with others; 0 where both have no area."""
    box, others = boxes[one, :4], boxes[others, :4]
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]) + offset
    intersection = np.maximum(sides, 0).prod(1)
    union = (box[2:] - box[:2] + offset).prod() - intersection
    union = union + (others[:, 2:] - others[:, :2] + offset).prod(1)
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.nan_to_num(intersection / union, nan=0.0)


@operator
def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS on the CPU: lower the scores of overlapping boxes, drop those below ``min_score``.

    ``method`` is 0 (naive: to zero), 1 (linear: times 1 - IoU) or 2 (Gaussian: times
    exp(-IoU^2 / sigma)). ``dets`` (N, 5) takes boxes and scores in the order of the returned indices.
    Of equal scores the compiled operator's order decides, in which a dropped box gives its place to the
    last one.
    """
    coordinates, values = boxes.numpy(), scores.numpy().copy()
    order, count, step = np.arange(len(values)), len(values), 0
    while step < count:
        best = step + values[order[step:count]].argmax()
        order[[step, best]] = order[[best, step]]
        one, rest = order[step], order[step + 1 : count]
        overlap = _overlaps(coordinates, one, rest, offset)
        if method == 2:
            values[rest] *= np.exp(-(overlap**2) / sigma)
        else:
            kept = 1 - overlap if method == 1 else 0
            values[rest] *= np.where(overlap >= iou_threshold, kept, 1)
        for place in step + 1 + np.flatnonzero(values[rest] < min_score):
            while place < count and values[order[place]] < min_score:
                count -= 1
                order[place] = order[count]
        step += 1
    order = torch.from_numpy(order[:count])
    dets[:count] = torch.cat([boxes[order], torch.from_numpy(values)[order, None]], dim=1)
    return order


@operator
def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Groups of boxes (N, 5 with scores): each kept one, then those it suppresses at this IoU or above.

    On the CPU. Groups and their members go from high score to low, equal scores by index.
    """
    boxes = full(dets).numpy()
    rest = torch.sort(full(dets)[:, 4], descending=True, stable=True).indices.numpy()
    groups = []
    while len(rest):
        suppressed = _overlaps(boxes, rest[0], rest[1:]) >= np.float32(iou_threshold)
        groups.append([rest[0].item(), *rest[1:][suppressed].tolist()])
        rest = rest[1:][~suppressed]
    return groups


@operator
def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Write overlaps into ``ious``: of all pairs (M, N), or if ``aligned`` of box i with box i (N,).

    ``mode`` 0 divides by the union, 1 by the area of the first box.
    """
    first, second = full(bboxes1), full(bboxes2)
    if not aligned:
        first = first[:, None]

    def area(boxes: Tensor) -> Tensor:
        return (boxes[..., 2:] - boxes[..., :2] + offset).prod(-1)

    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    intersection = (high - low + offset).clamp(min=0).prod(-1)
    base = area(first) if mode else area(first) + area(second) - intersection
    ious.copy_(intersection / base)
