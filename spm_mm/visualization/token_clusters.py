"""Which cells a clustering of tokens has merged, as a coloured segmentation of the picture."""

import colorsys

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from spm_mm.errors import UserError
from spm_mm.merging import ClusterMerging
from spm_mm.visualization.recorder import Recorder

__all__ = ['paint_clusters', 'token_clusters']

GOLDEN_RATIO = 0.618034


def token_clusters(backbone: nn.Module, image: Tensor) -> dict[int, np.ndarray]:
    """Token of every cell of the grid that was clustered, after each clustering of a backbone.

    Args:
        backbone: Model in evaluation mode.
        image: (1, 3, H, W).

    Returns:
        For each stage, 1 to 4, before which a :class:`~spm_mm.merging.ClusterMerging` stands, integers
        (rows, columns). A second clustering in a row is shown on the grid of the first.

    Raises:
        UserError: If there is no such merging.
    """
    stages = {
        f'mergings.{i}': i + 2
        for i, merging in enumerate(backbone.mergings)
        if isinstance(merging, ClusterMerging)
    }
    if not stages:
        raise UserError(f'the mergings of this {type(backbone).__name__} cluster no tokens')
    with torch.no_grad(), Recorder(backbone, modules=[*stages]) as seen:
        backbone(image)
    return {stage: seen.outputs[name].index[0].cpu().numpy() for name, stage in stages.items()}


def paint_clusters(picture: np.ndarray, clusters: np.ndarray, share: float = 0.55) -> np.ndarray:
    """Lay a colour for each cluster over a picture, and lines where clusters meet.

    Args:
        picture: RGB picture (H, W, 3), uint8.
        clusters: Number of the cluster of each cell, integers (rows, columns).
        share: Share of the colour, 0 to 1; the rest is the picture.

    Returns:
        RGB picture, uint8. Consecutive numbers have hues far apart.
    """
    height, width = picture.shape[:2]
    rows, columns = (
        np.arange(side) * cells // side
        for side, cells in zip((height, width), clusters.shape, strict=True)
    )
    labels = clusters[rows[:, None], columns]
    colours = np.array(
        [
            colorsys.hsv_to_rgb(i * GOLDEN_RATIO % 1, 0.65 + 0.35 * (i % 2), 1 - 0.4 * (i % 3) / 2)
            for i in range(int(clusters.max()) + 1)
        ]
    )
    painted = cv2.addWeighted(
        picture, 1 - share, (colours[labels] * 255).astype(np.uint8), share, 0
    )
    painted[1:][labels[1:] != labels[:-1]] = 255
    painted[:, 1:][labels[:, 1:] != labels[:, :-1]] = 255
    return painted
