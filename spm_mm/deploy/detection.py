"""The predictions of MMDetection's detectors with anchors, as functions of tensors alone.

MMDetection collects them in Python objects, image by image, which a graph cannot hold.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import ops

from spm_mm.errors import UserError

__all__ = [
    'best_of_levels',
    'check_one_stage',
    'check_two_stages',
    'dense_boxes',
    'predict_two_stages',
    'suppress',
]

Levels = list[tuple[Tensor, Tensor]]
ANCHOR_HEADS = ('RetinaHead', 'RetinaSepBNHead', 'FSAFHead', 'FreeAnchorRetinaHead', 'YOLOFHead')


def dense_boxes(head: nn.Module, features: Sequence[Tensor], size: tuple[int, int]) -> Levels:
    """Every anchor's box (B, N, 4) and scores (B, N, classes), from 0 to 1, of each level.

    Args:
        head: A head with anchors of a one-stage detector, or of region proposals.
        features: Feature maps (B, C, H, W) of the neck.
        size: Height and width of the images.
    """
    scores, deltas = head(features)
    batch, device = scores[0].shape[0], scores[0].device
    sizes = [tuple(level.shape[2:]) for level in scores]
    anchors = head.prior_generator.grid_priors(sizes, torch.float32, device)
    levels = []
    for score, delta, anchor in zip(scores, deltas, anchors, strict=True):
        score, delta = (
            t.permute(0, 2, 3, 1).reshape(batch, -1, last).float()
            for t, last in ((score, head.cls_out_channels), (delta, 4))
        )
        score = score.sigmoid() if head.use_sigmoid_cls else score.softmax(-1)[..., :-1]
        levels.append((decode(head, anchor.expand(batch, -1, -1), delta, size), score))
    return levels


def decode(head: nn.Module, boxes: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., N, 4) moved as the head predicts."""
    if boxes.ndim == 2:  # MMDetection's code for one image asks whether there are any boxes
        return decode(head, boxes[None], deltas[None], size)[0]
    moved = head.bbox_coder.decode(boxes, deltas)
    return clip(moved, *size) if head.bbox_coder.clip_border else moved


def best_of_levels(levels: Levels, number: int) -> Sequence[Tensor]:
    """Of one image, the best pairs of box and class of each level.

    Pairs and not boxes: the threshold of :func:`suppress` leaves of them what it would leave of all.

    Returns:
        Boxes (N, 4), scores (N,), classes (N,) and levels (N,).
    """
    found = []
    for level, (boxes, scores) in enumerate(levels):
        boxes, scores, classes = boxes[0], scores[0], scores.shape[-1]
        best, index = scores.flatten().topk(torch.sym_min(number, scores.shape[0] * classes))
        found.append(
            (boxes[index // classes], best, index % classes, torch.full_like(index, level))
        )
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def suppress(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    cfg: Any,
    threshold: float = 0,
    smallest: float = -1,
) -> Sequence[Tensor]:
    """Non-maximum suppression within groups, as MMDetection does it.

    Args:
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        scores: (N,).
        groups: (N,), integers: a box suppresses those of its own group.
        cfg: ``test_cfg`` of a head: ``nms.iou_threshold`` and ``max_per_img``.
        threshold: Boxes of this score and below are left out.
        smallest: So are boxes with a side of this length or below, in pixels.

    Returns:
        Boxes (M, 4), scores (M,) and groups (M,), best first.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    wanted = scores > threshold
    if smallest >= 0:
        wanted = wanted & (sides > smallest).all(dim=1)
    # Groups are moved apart: by what MMDetection moves them, so that rounding is the same.
    corners = torch.where(wanted[:, None], boxes, 0.0)
    step = torch.cat([corners.flatten(), boxes.new_zeros(1)]).max() + 1
    index = wanted.nonzero()[:, 0]
    boxes, scores, groups = (t[index] for t in (boxes, scores, groups))
    # PyTorch's graphs hold for two boxes or more: two worse ones, far from all others, are kept last.
    far = boxes.new_tensor([[x, x, x + 1, x + 1] for x in (-1e6, -2e6)])
    apart = torch.cat([boxes + (groups * step)[:, None], far])
    kept = ops.nms(apart, torch.cat([scores, -scores.new_ones(2)]), cfg.nms.iou_threshold)
    kept = kept[:-2][: cfg.max_per_img]
    return boxes[kept], scores[kept], groups[kept]


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (..., 4) inside an image, as box coders do it, whose clamp fixes the size of a graph."""
    sides = [torch.full((), side, dtype=boxes.dtype) for side in (width, height) * 2]
    return boxes.clamp(min=0).minimum(torch.stack(sides).to(boxes.device))


def each(module: nn.Module) -> list[nn.Module]:
    """The stages of a cascade, or the only one."""
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def refuse_others(module: nn.Module, allowed: Sequence[str]) -> None:
    """Refuse a part of a detector that is of another class, which may compute something else."""
    if type(module).__name__ not in allowed:
        raise UserError(
            f'a detector with a {type(module).__name__} cannot be exported: allowed are'
            f' {", ".join(allowed)}'
        )


def check_test_cfg(cfg: Any, where: str, with_levels: bool) -> None:
    """Refuse settings that :func:`suppress` does not follow.

    Raises:
        UserError: With the key, its value and what is allowed.
    """
    settings = cfg.get('nms') or {}
    others = set(settings) - {'type', 'iou_threshold', 'split_thr'}
    if settings.get('type') != 'nms' or 'iou_threshold' not in settings or others:
        raise UserError(
            f"{where}.nms must be dict(type='nms', iou_threshold=...) for --nms, got {dict(settings)}"
        )
    for key in ('max_per_img', 'nms_pre') if with_levels else ('max_per_img',):
        if not isinstance(cfg.get(key), int) or cfg[key] < 1:
            raise UserError(f'{where}.{key} must be at least 1 for --nms, got {cfg.get(key)}')


def check_one_stage(head: nn.Module, nms: bool) -> None:
    """Refuse a head that MMDetection computes otherwise than :func:`dense_boxes`.

    Raises:
        UserError: With what is not supported.
    """
    refuse_others(head, ANCHOR_HEADS)
    refuse_others(head.bbox_coder, ('DeltaXYWHBBoxCoder',))
    if nms:
        check_test_cfg(head.test_cfg, 'model.test_cfg', with_levels=True)


def check_two_stages(model: nn.Module) -> None:
    """Refuse a detector that MMDetection computes otherwise than :func:`predict_two_stages`.

    Raises:
        UserError: With what is not supported.
    """
    rpn, roi = model.rpn_head, model.roi_head
    refuse_others(model, ('FasterRCNN', 'MaskRCNN', 'CascadeRCNN'))
    refuse_others(rpn, ('RPNHead',))
    refuse_others(roi, ('StandardRoIHead', 'CascadeRoIHead'))
    extractors = each(roi.bbox_roi_extractor)
    if roi.with_mask:
        extractors = extractors + each(roi.mask_roi_extractor)
        for head in each(roi.mask_head):
            refuse_others(head, ('FCNMaskHead',))
    for extractor in extractors:
        refuse_others(extractor, ('SingleRoIExtractor',))
        for layer in extractor.roi_layers:
            refuse_others(layer, ('RoIAlign',))
            if layer.pool_mode != 'avg':
                raise UserError(f"pool_mode of RoIAlign must be 'avg', got {layer.pool_mode!r}")
    for head in each(roi.bbox_head):
        refuse_others(head, ('BBoxHead', 'Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead'))
        if head.custom_activation:
            raise UserError('a loss with its own activation is not exported')
    for head in (rpn, *each(roi.bbox_head)):
        refuse_others(head.bbox_coder, ('DeltaXYWHBBoxCoder',))
    if roi.with_shared_head:
        raise UserError('a shared head is not exported')
    check_test_cfg(rpn.test_cfg, 'model.test_cfg.rpn', with_levels=True)
    check_test_cfg(roi.test_cfg, 'model.test_cfg.rcnn', with_levels=False)


def predict_two_stages(
    model: nn.Module, features: Sequence[Tensor], size: tuple[int, int]
) -> Sequence[Tensor]:
    """What a two-stage detector sees in one image, by its ``test_cfg``.

    Args:
        model: MMDetection's detector, in evaluation mode.
        features: Feature maps (1, C, H, W) of the neck.
        size: Height and width of the image.

    Returns:
        Boxes (N, 4), scores (N,) and classes (N,), best first, and masks (N, h, w) of the object in its
        box, from 0 to 1, where the model has them.
    """
    head, roi = model.rpn_head, model.roi_head
    found = dense_boxes(head, features, size)
    boxes, scores, _, levels = best_of_levels(found, head.test_cfg.nms_pre)
    smallest = head.test_cfg.get('min_bbox_size', -1)
    boxes, _, _ = suppress(boxes, scores, levels, head.test_cfg, smallest=smallest)
    boxes, scores = refine(roi, features, boxes, size)
    classes = torch.arange(scores.shape[1], device=boxes.device).expand_as(scores)
    candidates = boxes.flatten(0, 1), scores.reshape(-1), classes.reshape(-1)
    found = suppress(*candidates, roi.test_cfg, roi.test_cfg.get('score_thr', 0))
    return (*found, masks_of(roi, features, found[0], found[2])) if roi.with_mask else found


def refine(
    roi: nn.Module, features: Sequence[Tensor], boxes: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) as the second stage moves them for each class (N, C, 4), and scores (N, C)."""
    heads, total = each(roi.bbox_head), 0
    for extractor, head in zip(each(roi.bbox_roi_extractor), heads, strict=True):
        scores, deltas = (t.float() for t in head(pool(extractor, features, boxes)))
        total = total + scores
        deltas = deltas.unflatten(1, (-1, 4))
        if head is not heads[-1]:
            best = scores[:, :-1].argmax(dim=1)
            deltas = deltas[:, 0] if head.reg_class_agnostic else of_class(deltas, best)
            boxes = decode(head, boxes, deltas, size)
    classes = head.num_classes
    scores = (total / len(heads)).softmax(dim=1)[:, :classes]
    boxes, deltas = (t.expand(-1, classes, -1).reshape(-1, 4) for t in (boxes[:, None], deltas))
    return decode(head, boxes, deltas, size).unflatten(0, (-1, classes)), scores


def masks_of(roi: nn.Module, features: Sequence[Tensor], boxes: Tensor, classes: Tensor) -> Tensor:
    """What the mask heads see in boxes (N, 4) of these classes (N,): (N, h, w), from 0 to 1."""
    heads, total = each(roi.mask_head), 0
    for extractor, head in zip(each(roi.mask_roi_extractor), heads, strict=True):
        total = total + head(pool(extractor, features, boxes)).float().sigmoid()
    masks = total / len(heads)
    return masks[:, 0] if head.class_agnostic else of_class(masks, classes)


def of_class(values: Tensor, classes: Tensor) -> Tensor:
    """Of values (N, C, ...) for every class those of each box's own class (N,), as (N, ...)."""
    index = classes.reshape(-1, *[1] * (values.ndim - 1)).expand(-1, 1, *values.shape[2:])
    return values.gather(1, index)[:, 0]


def pool(extractor: nn.Module, features: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Features of each box (N, C, h, w), from the level that fits its size."""
    layers = extractor.roi_layers
    rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
    levels = extractor.map_roi_levels(rois, len(layers))
    pooled = None
    for i, layer in enumerate(layers):
        mine = levels == i
        found = ops.roi_align(
            features[i].float(),
            # Of other levels an empty box: no samples are taken of it.
            torch.where(mine[:, None], rois, 0.0),
            layer.output_size,
            layer.spatial_scale,
            layer.sampling_ratio,
            layer.aligned,
        )
        pooled = found if pooled is None else torch.where(mine[:, None, None, None], found, pooled)
    return pooled.to(features[0].dtype)
