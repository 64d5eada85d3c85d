"""Which clusters of patch-to-cluster attention a classification rests on (PaCa, section 3.3).

"PaCa-ViT: Learning Patch-to-Cluster Attention in Vision Transformers", https://arxiv.org/abs/2203.11987,
equations 7 and 8 and Figure 6. The paper does not say whether the image is masked before or after its
normalisation. Here it is before: what a mask drops becomes black.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.errors import UserError
from spm_mm.layers import resize_map

__all__ = [
    'Verdict',
    'assignment_maps',
    'cluster_masks',
    'judge_clusters',
    'mask_image',
    'top_clusters',
]


def cluster_masks(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Binary mask of each cluster, at the size of the image (Eq. 7).

    A cell belongs to the mask where the sigmoid of its logit is greater than the mean of the sigmoids
    of its cluster. The mask is resized by nearest interpolation.

    Args:
        logits: Cluster assignment before the softmax, (h, w, M).
        size: Height H and width W of the image.

    Returns:
        (M, H, W), boolean.

    Raises:
        UserError: If the logits are not (h, w, M).
    """
    if logits.ndim != 3:
        raise UserError(f'logits must be (h, w, M), got {tuple(logits.shape)}')
    scores = logits.float().sigmoid().permute(2, 0, 1)
    masks = scores > scores.mean(dim=(1, 2), keepdim=True)
    return F.interpolate(masks[None].float(), size, mode='nearest')[0] > 0


def mask_image(picture: Tensor, masks: Tensor) -> Tensor:
    """The picture as each cluster sees it: every pixel times the mask (Eq. 8).

    Args:
        picture: Values of the picture's channels, (C, H, W); 0 is black.
        masks: (M, H, W), boolean.

    Returns:
        (M, C, H, W).
    """
    return picture * masks[:, None]


@dataclass(frozen=True)
class Verdict:
    """What a classifier says of the picture masked by one cluster."""

    cluster: int
    label: int
    """The predicted class."""
    probability: float
    """Probability of the ground-truth class, by which clusters are ranked."""
    positive: bool
    """Whether the prediction is the ground-truth class: the positive group."""


def judge_clusters(
    classify: Callable[[Tensor], Tensor],
    picture: Tensor,
    masks: Tensor,
    label: int,
    batch_size: int = 16,
) -> tuple[Verdict, list[Verdict]]:
    """Classify the picture as a whole and as each cluster sees it.

    Args:
        classify: From pictures (B, C, H, W) to class probabilities (B, classes).
        picture: The picture (C, H, W), before the model's normalisation.
        masks: Masks (M, H, W) of :func:`cluster_masks`.
        label: The ground-truth class, from 0.
        batch_size: How many masked pictures are classified at once.

    Returns:
        The verdict on the whole picture, whose ``cluster`` is -1, and one for each cluster. The latter
        are none where the whole picture is classified wrongly: the paper judges only what the model
        classifies correctly.

    Raises:
        UserError: If the label is not one of the classes.
    """

    def verdict(cluster: int, probabilities: Tensor) -> Verdict:
        predicted = int(probabilities.argmax())
        return Verdict(cluster, predicted, float(probabilities[label]), predicted == label)

    with torch.no_grad():
        probabilities = classify(picture[None])[0]
        if not 0 <= label < len(probabilities):
            raise UserError(f'label must be from 0 to {len(probabilities) - 1}, got {label}')
        whole = verdict(-1, probabilities)
        verdicts: list[Verdict] = []
        for start in range(0, len(masks) if whole.positive else 0, batch_size):
            for probabilities in classify(mask_image(picture, masks[start : start + batch_size])):
                verdicts.append(verdict(len(verdicts), probabilities))
    return whole, verdicts


def top_clusters(verdicts: Sequence[Verdict], positive: bool, number: int = 3) -> list[Verdict]:
    """The clusters of one group with the largest probability of the ground-truth class."""
    group = [verdict for verdict in verdicts if verdict.positive == positive]
    return sorted(group, key=lambda verdict: -verdict.probability)[:number]


def assignment_maps(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Each cluster's assignment (Eq. 5 and 6) as a heat map over the image.

    The weights after the softmax are resized bilinearly, and the least and the largest of each cluster
    become 0 and 1. This shows what the attention reads; :func:`cluster_masks` is what section 3.3 uses
    to explain a prediction.

    Args:
        logits: Cluster assignment before the softmax, (h, w, M).
        size: Height H and width W of the image.

    Returns:
        (M, H, W), 0 to 1; 0 all over where a cluster weighs all positions alike.
    """
    weights = logits.float().flatten(0, 1).softmax(dim=0).view(logits.shape).permute(2, 0, 1)
    maps = resize_map(weights[..., None], *size)[..., 0]
    least, most = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    spread = most - least
    # Below that it is rounding.
    return torch.where(spread > 1e-5 * most.abs(), (maps - least) / spread, 0)
