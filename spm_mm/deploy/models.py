"""From the model of a framework to one module that takes images and returns tensors."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import ops

from spm_mm.compat import check_state_dict, load_weights
from spm_mm.errors import UserError

__all__ = ['Deployed', 'build_deployed']


class Deployed(nn.Module):
    """A trained model as one graph.

    What it returns depends on the model: a classifier its class scores (B, classes); a segmentor the
    scores of every pixel (B, classes, H, W); a one-stage detector boxes (B, N, 4) as x1, y1, x2, y2 in
    pixels and class scores (B, N, classes), before non-maximum suppression; a bare backbone its feature
    maps.

    Args:
        model: The framework's model, or a backbone.
        normalize: Take RGB images from 0 to 255 and do what the model's data preprocessor does. False
            takes normalized images in the channel order of the training.
        argmax: Return the class (integers, (B,) or (B, H, W)) in place of scores.
        nms: Of a detector, return what is left of one image by the settings of its ``test_cfg``: boxes
            (N, 4), scores (N,), classes (N,), best first.

    Shape: images (B, 3, H, W) in float32.

    Raises:
        UserError: If the model is of a kind that cannot be exported, or ``argmax`` does not fit it.
    """

    def __init__(
        self,
        model: nn.Module,
        normalize: bool = False,
        argmax: bool = False,
        nms: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.kind = kind_of(model)
        if self.kind == 'segmentor':
            follow_sizes(model)
        self.argmax = argmax
        if argmax and self.kind not in ('classifier', 'segmentor'):
            raise UserError(f'--argmax is for classifiers and segmentors, this is a {self.kind}')
        self.nms = nms
        if nms and self.kind != 'detector':
            raise UserError(f'--nms is for detectors, this is a {self.kind}')
        self.flips = False
        mean, std = torch.zeros(3), torch.ones(3)
        if normalize:
            prepare = getattr(model, 'data_preprocessor', None)
            if getattr(prepare, 'mean', None) is None:
                raise UserError('--normalize needs a model whose data preprocessor has a mean')
            mean, std = prepare.mean.flatten(), prepare.std.flatten()
            names = ('_channel_conversion', 'channel_conversion', 'to_rgb')
            # Frameworks read BGR images: one that converts them was trained on RGB.
            self.flips = not any(getattr(prepare, name, False) for name in names)
        self.register_buffer('mean', mean.view(3, 1, 1), persistent=False)
        self.register_buffer('std', std.view(3, 1, 1), persistent=False)
        self.normalize = normalize

    @property
    def output_names(self) -> list[str]:
        """Names of what is returned."""
        if self.kind == 'detector':
            return ['boxes', 'scores', 'classes'] if self.nms else ['boxes', 'scores']
        if self.kind == 'backbone':
            return [f'stage{i + 1}' for i in self.model.out_indices]
        return ['classes' if self.argmax else 'scores']

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = images
        if self.normalize:
            x = x.flip(1) if self.flips else x
            x = (x - self.mean) / self.std
        x = x.to(next(self.model.parameters()).dtype)
        outputs = getattr(self, f'_{self.kind}')(x)
        outputs = tuple(out.float() if out.is_floating_point() else out for out in outputs)
        return (outputs[0].argmax(dim=1),) if self.argmax else outputs

    def _backbone(self, x: Tensor) -> Sequence[Tensor]:
        return self.model(x)

    def _classifier(self, x: Tensor) -> Sequence[Tensor]:
        return (self.model(x, mode='tensor'),)

    def _segmentor(self, x: Tensor) -> Sequence[Tensor]:
        scores = self.model.decode_head(self.model.extract_feat(x))
        corners = self.model.align_corners
        return (F.interpolate(scores, x.shape[2:], mode='bilinear', align_corners=corners),)

    def _detector(self, x: Tensor) -> Sequence[Tensor]:
        """All boxes and scores of an anchor-based one-stage detector, level after level."""
        head = self.model.bbox_head
        scores, deltas = head(self.model.extract_feat(x))
        sizes = [tuple(level.shape[2:]) for level in scores]
        anchors = head.prior_generator.grid_priors(sizes, torch.float32, x.device)
        levels = []
        for score, delta, anchor in zip(scores, deltas, anchors, strict=True):
            score, delta = (
                t.permute(0, 2, 3, 1).reshape(x.shape[0], -1, last).float()
                for t, last in ((score, head.cls_out_channels), (delta, 4))
            )
            score = score.sigmoid() if head.use_sigmoid_cls else score.softmax(-1)
            box = head.bbox_coder.decode(anchor.expand(x.shape[0], -1, -1), delta)
            levels.append((clip(box, *x.shape[2:]) if head.bbox_coder.clip_border else box, score))
        if self.nms:
            return suppress([(box[0], score[0]) for box, score in levels], head.test_cfg)
        return [torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)]


def suppress(levels: Sequence[tuple[Tensor, Tensor]], cfg: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes that MMDetection leaves of one image: the best of each level, then suppression.

    Args:
        levels: Boxes (N, 4) and scores (N, classes) of each level.
        cfg: ``test_cfg`` of a one-stage head: ``nms_pre``, ``score_thr``, ``min_bbox_size``,
            ``nms.iou_threshold`` and ``max_per_img``.

    Returns:
        Boxes (M, 4), scores (M,) and classes (M,), best first.
    """
    candidates = []
    for boxes, scores in levels:
        classes = scores.shape[1]
        # Pairs of box and class, of which the threshold below leaves what it would have left here.
        best, index = scores.flatten().topk(torch.sym_min(cfg.nms_pre, scores.shape[0] * classes))
        candidates.append((boxes[index // classes], best, index % classes))
    boxes, scores, classes = (torch.cat(parts) for parts in zip(*candidates, strict=True))
    sides = boxes[:, 2:] - boxes[:, :2]
    wanted = scores > cfg.get('score_thr', 0)
    if cfg.get('min_bbox_size', -1) >= 0:
        wanted = wanted & (sides > cfg.min_bbox_size).all(dim=1)
    # Classes are moved apart, so that none suppresses another: by what MMDetection moves them.
    step = torch.where(wanted[:, None], boxes, 0.0).max() + 1
    index = wanted.nonzero()[:, 0]
    boxes, scores, classes = (t[index] for t in (boxes, scores, classes))
    kept = ops.nms(boxes + (classes * step)[:, None], scores, cfg.nms.iou_threshold)
    kept = kept[: cfg.max_per_img]
    return boxes[kept], scores[kept], classes[kept]


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (..., 4) inside an image, as box coders do it, whose clamp fixes the size of a graph."""
    sides = [torch.full((), side, dtype=boxes.dtype) for side in (width, height) * 2]
    return boxes.clamp(min=0).minimum(torch.stack(sides).to(boxes.device))


class Upsample(nn.Module):
    """MMSegmentation's layer of this name, whose own rounding fixes the size of a graph.

    Args:
        layer: The layer to replace; its ``scale_factor`` is a whole number.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.scale = int(layer.scale_factor)
        self.options = dict(mode=layer.mode, align_corners=layer.align_corners)

    def forward(self, x: Tensor) -> Tensor:
        size = [side * self.scale for side in x.shape[2:]]
        return F.interpolate(x, size, **self.options)


def follow_sizes(model: nn.Module) -> None:
    """Replace the layers of a segmentor that would fix the size of a graph."""
    for parent in model.modules():
        for name, layer in parent.named_children():
            scale = getattr(layer, 'scale_factor', None)
            if type(layer).__module__ == 'mmseg.models.utils.wrappers' and scale and scale % 1 == 0:
                setattr(parent, name, Upsample(layer))


def kind_of(model: nn.Module) -> str:
    """``'backbone'``, ``'classifier'``, ``'segmentor'`` or ``'detector'``.

    Raises:
        UserError: If it is none of them.
    """
    if not hasattr(model, 'backbone'):
        return 'backbone'
    if hasattr(model, 'decode_head') and not isinstance(model.decode_head, nn.ModuleList):
        return 'segmentor'
    if hasattr(model, 'bbox_head') and hasattr(model.bbox_head, 'prior_generator'):
        return 'detector'
    if hasattr(model, 'head') and hasattr(model, 'neck'):
        return 'classifier'
    raise UserError(
        f'a {type(model).__name__} cannot be exported: allowed are classifiers, segmentors with one'
        ' decode head, one-stage detectors with anchors, and backbones'
    )


def build_deployed(
    cfg: Config,
    checkpoint: str | None,
    normalize: bool = False,
    argmax: bool = False,
    backbone: bool = False,
    nms: bool = False,
) -> Deployed:
    """Build the model of a config with the weights of a checkpoint, in evaluation mode.

    Args:
        cfg: Config of any of the three frameworks.
        checkpoint: File with the weights; None keeps random ones.
        normalize: See :class:`Deployed`.
        argmax: See :class:`Deployed`.
        backbone: Take the backbone alone.
        nms: See :class:`Deployed`.

    Raises:
        UserError: If the weights belong to another model, or the model cannot be exported.
    """
    init_default_scope(cfg.get('default_scope', 'spm_mm'))
    config: dict[str, Any] = dict(cfg.model)
    if cfg.get('data_preprocessor'):
        config.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = revert_sync_batchnorm(MODELS.build(config))
    if checkpoint is not None:
        weights = load_weights(checkpoint)
        missing = check_state_dict(model, weights, checkpoint)
        if missing:
            raise UserError(f'checkpoint {checkpoint} lacks {len(missing)} entries: {missing[:3]}')
        model.load_state_dict(weights)
    if backbone:
        prepare, model = getattr(model, 'data_preprocessor', None), model.backbone
        if normalize:
            model.data_preprocessor = prepare
    deployed = Deployed(model, normalize, argmax, nms)
    deployed.requires_grad_(False).eval()
    return deployed
