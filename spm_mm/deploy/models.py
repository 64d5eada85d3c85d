"""From the model of a framework to one module that takes images and returns tensors."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.compat import check_state_dict, load_weights
from spm_mm.deploy.detection import (
    best_of_levels,
    check_one_stage,
    check_two_stages,
    dense_boxes,
    predict_two_stages,
    suppress,
)
from spm_mm.errors import UserError

__all__ = ['Deployed', 'build_deployed']


class Deployed(nn.Module):
    """A trained model as one graph.

    What it returns depends on the model: a classifier its class scores (B, classes); a segmentor the
    scores of every pixel (B, classes, H, W); a one-stage detector boxes (B, N, 4) as x1, y1, x2, y2 in
    pixels and class scores (B, N, classes), before non-maximum suppression; a bare backbone its feature
    maps. A two-stage detector needs ``nms``.

    Args:
        model: The framework's model, or a backbone.
        normalize: Take RGB images from 0 to 255 and do what the model's data preprocessor does. False
            takes normalized images in the channel order of the training.
        argmax: Return the class (integers, (B,) or (B, H, W)) in place of scores.
        nms: Of a detector, return what is left of one image by the settings of its ``test_cfg``: boxes
            (N, 4), scores (N,), classes (N,), best first, and with a mask head masks (N, h, w) in the
            boxes, from 0 to 1.

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
        if nms and 'detector' not in self.kind:
            raise UserError(f'--nms is for detectors, this is a {self.kind}')
        if self.kind == 'detector':
            check_one_stage(model.bbox_head, nms)
        if self.kind == 'two-stage detector':
            check_two_stages(model)
            if not nms:
                raise UserError(
                    'a two-stage detector is exported with --nms: its second stage needs what the'
                    ' suppression of the first one leaves'
                )
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
        if 'detector' in self.kind:
            has_masks = self.kind == 'two-stage detector' and self.model.roi_head.with_mask
            names = ['boxes', 'scores', 'classes', 'masks']
            return names[: 3 + has_masks if self.nms else 2]
        if self.kind == 'backbone':
            return [f'stage{i + 1}' for i in self.model.out_indices]
        return ['classes' if self.argmax else 'scores']

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = images
        if self.normalize:
            x = x.flip(1) if self.flips else x
            x = (x - self.mean) / self.std
        x = x.to(next(self.model.parameters()).dtype)
        outputs = getattr(self, '_' + re.sub(r'\W', '_', self.kind))(x)
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
        """All boxes and scores of a one-stage detector, level after level, or what is left of them."""
        head, size = self.model.bbox_head, tuple(x.shape[2:])
        levels = dense_boxes(head, self.model.extract_feat(x), size)
        if not self.nms:
            return [torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)]
        cfg = head.test_cfg
        boxes, scores, classes, _ = best_of_levels(levels, cfg.nms_pre)
        limits = cfg.get('score_thr', 0), cfg.get('min_bbox_size', -1)
        return suppress(boxes, scores, classes, cfg, *limits)

    def _two_stage_detector(self, x: Tensor) -> Sequence[Tensor]:
        return predict_two_stages(self.model, self.model.extract_feat(x), tuple(x.shape[2:]))


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
    """``'backbone'``, ``'classifier'``, ``'segmentor'``, ``'detector'`` or ``'two-stage detector'``.

    Raises:
        UserError: If it is none of them.
    """
    if not hasattr(model, 'backbone'):
        return 'backbone'
    if hasattr(getattr(model, 'decode_head', None), 'cls_seg'):
        return 'segmentor'
    if hasattr(getattr(getattr(model, 'bbox_head', None), 'prior_generator', None), 'base_anchors'):
        return 'detector'
    if hasattr(model, 'roi_head') and getattr(model, 'with_rpn', False):
        return 'two-stage detector'
    if hasattr(model, 'head') and hasattr(model, 'neck'):
        return 'classifier'
    raise UserError(
        f'a {type(model).__name__} cannot be exported: allowed are classifiers, segmentors with one'
        ' decode head that scores pixels, detectors of one stage with anchors, of two stages, and'
        ' backbones'
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
