"""What the clusters of patch-to-cluster attention gather (PaCa, section 3.3, Figure 6).

Equations 7 and 8 are read so: a cluster's weights are resized to the image and brought to 0 to 1, and
the picture is multiplied by them, before the model's normalisation. So what a cluster does not weigh
becomes black, not the mean colour. The other reading, a mask of ones and zeros, is ``threshold``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from spm_mm.errors import UserError
from spm_mm.layers import resize_map

__all__ = ['Verdict', 'atlas', 'heat_maps', 'judge_clusters', 'mask_image', 'top_clusters']


def heat_maps(assignment: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Each cluster's weights as a map over the image, from 0 to 1 (Eq. 7).

    The weights are resized bilinearly, and the least and the largest of each cluster become 0 and 1.

    Args:
        assignment: Weights (M, h * w) of one image.
        grid: Rows h and columns w of the stage's map.
        size: Height H and width W of the image.

    Returns:
        (M, H, W); 0 all over where a cluster weighs all positions alike.

    Raises:
        UserError: If the assignment does not belong to the grid.
    """
    if assignment.ndim != 2 or assignment.shape[1] != grid[0] * grid[1]:
        raise UserError(
            f'assignment must be (M, {grid[0]} * {grid[1]}), got {tuple(assignment.shape)}'
        )
    maps = resize_map(assignment.float().unflatten(1, grid)[..., None], *size)[..., 0]
    least, most = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    spread = most - least
    # Below that it is rounding.
    return torch.where(spread > 1e-5 * most.abs(), (maps - least) / spread, 0)


def mask_image(picture: Tensor, heat: Tensor, threshold: float | None = None) -> Tensor:
    """The picture as one cluster sees it: every pixel times its heat (Eq. 8).

    Args:
        picture: Values of the picture's channels, (..., C, H, W); 0 is black.
        heat: Heat maps (M, H, W), 0 to 1.
        threshold: Keep pixels of at least this heat whole and drop the others, 0 to 1; None weighs
            them by their heat.

    Returns:
        (M, C, H, W).
    """
    if threshold is not None:
        heat = (heat >= threshold).to(heat.dtype)
    return picture * heat[:, None]


@dataclass(frozen=True)
class Verdict:
    """What a classifier says of the picture masked by one cluster."""

    cluster: int
    kept: bool
    """Whether the prediction is that of the whole picture."""
    label: int
    """The predicted class."""
    probability: float
    """Its probability."""


def judge_clusters(
    classify: Callable[[Tensor], Tensor],
    picture: Tensor,
    heat: Tensor,
    threshold: float | None = None,
    batch_size: int = 16,
) -> tuple[Verdict, list[Verdict]]:
    """Classify the picture as a whole and as each cluster sees it.

    Args:
        classify: From pictures (B, C, H, W) to class probabilities (B, classes).
        picture: The picture (C, H, W), before the model's normalisation.
        heat: Heat maps (M, H, W).
        threshold: See :func:`mask_image`.
        batch_size: How many masked pictures are classified at once.

    Returns:
        The verdict on the whole picture, whose ``cluster`` is -1, and one for each cluster.
    """
    with torch.no_grad():
        probability, label = classify(picture[None])[0].max(dim=0)
        whole = Verdict(-1, True, int(label), float(probability))
        verdicts = []
        for start in range(0, len(heat), batch_size):
            masked = mask_image(picture, heat[start : start + batch_size], threshold)
            for probability, label in zip(*classify(masked).max(dim=1), strict=True):
                verdicts.append(
                    Verdict(
                        len(verdicts), int(label) == whole.label, int(label), float(probability)
                    )
                )
    return whole, verdicts


def top_clusters(verdicts: list[Verdict], kept: bool, number: int = 3) -> list[Verdict]:
    """The most certain of the positive group, which keeps the prediction, or of the negative one."""
    group = [verdict for verdict in verdicts if verdict.kept == kept]
    return sorted(group, key=lambda verdict: -verdict.probability)[:number]


def atlas(
    picture: np.ndarray, heat: Tensor, caption: str, columns: int = 10, side: int = 128
) -> np.ndarray:
    """All heat maps over the picture in one picture, numbered row by row from 0.

    Args:
        picture: RGB picture (H, W, 3), uint8.
        heat: Heat maps (M, H, W), 0 to 1.
        caption: One line above them.
        columns: Tiles in a row.
        side: Width of a tile in pixels; its height keeps the picture's aspect.

    Returns:
        RGB picture, uint8.
    """
    height = max(1, round(side * picture.shape[0] / picture.shape[1]))
    small = cv2.resize(picture, (side, height), interpolation=cv2.INTER_AREA)
    tiles = []
    for i, values in enumerate(heat.numpy()):
        values = cv2.resize(values, (side, height), interpolation=cv2.INTER_LINEAR)
        colours = cv2.applyColorMap((values * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        tile = cv2.addWeighted(small, 0.35, colours[..., ::-1], 0.65, 0)
        cv2.putText(
            tile, str(i), (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA
        )
        tiles.append(cv2.copyMakeBorder(tile, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255,) * 3))
    columns = min(columns, len(tiles))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    head = np.full((24, rows[0].shape[1], 3), 255, np.uint8)
    cv2.putText(head, caption, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack((head, *rows))
