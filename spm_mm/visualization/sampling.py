"""Where deformable mergings read, followed back to the pixels of the image."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from spm_mm.errors import UserError
from spm_mm.layers import PatchStem
from spm_mm.merging import DeformableMerging
from spm_mm.ops import sample
from spm_mm.visualization.mechanisms import cell_at
from spm_mm.visualization.recorder import Recorder

__all__ = ['SampledPixels', 'sampled_pixels']


@dataclass(frozen=True)
class SampledPixels:
    """What one cell of a stage is made of: places x, y (n, 2) in pixels of the image."""

    points: np.ndarray
    """Where the mergings read, four places for each merging that was passed."""
    regular: np.ndarray
    """The same places without offsets."""
    cell: tuple[float, float, float, float]
    """Left, top, right and bottom of the regular cell."""


def sampled_pixels(
    backbone: nn.Module, image: Tensor, stage: int, place: tuple[float, float]
) -> SampledPixels:
    """Follow one cell of a stage through all mergings before it (LIT, Figure 2).

    A cell is four places in the map before. These lie between cells, whose own places are blended
    bilinearly, and so on down to stage 1, a cell of which is drawn at its centre: 4, 16 and 64 places
    for stages 2, 3 and 4. What lies outside of a map is read as zero and stays where it points.

    Args:
        backbone: Model in evaluation mode, with a :class:`~spm_mm.layers.PatchStem` and
            :class:`~spm_mm.merging.DeformableMerging` at every transition up to ``stage``.
        image: (1, 3, H, W).
        stage: Stage of the cell, from 2.
        place: Place of the cell, x and y from 0 to 1.

    Raises:
        UserError: If the backbone has another stem or another merging there, or no such stage.
    """
    stages = len(backbone.stages)
    if not 2 <= stage <= stages:
        raise UserError(f'stage must be from 2 to {stages}, got {stage}')
    if not isinstance(backbone.stem, PatchStem):
        raise UserError(f'the stem must be a PatchStem, got {type(backbone.stem).__name__}')
    for i, merging in enumerate(backbone.mergings[: stage - 1]):
        if not isinstance(merging, DeformableMerging):
            raise UserError(
                f'mergings.{i} must be a DeformableMerging, got {type(merging).__name__}'
            )
    names = [f'mergings.{i}.offset' for i in reversed(range(stage - 1))]
    with torch.no_grad(), Recorder(backbone, modules=names) as seen:
        backbone(image)
    offsets = [seen.outputs[name].permute(0, 2, 3, 1).cpu() for name in names]
    height, width = offsets[0].shape[1:3]
    row, column = cell_at(place, (height, width))
    points = regular = torch.tensor([[[row, column]]], dtype=torch.float32)
    for offset in offsets:
        points, regular = read_places(points, offset), read_places(regular, 0 * offset)
    patch = backbone.stem.conv.stride[0]
    side = patch * 2 ** (stage - 1)
    return SampledPixels(
        *(_centres(places, patch) for places in (points, regular)),
        cell=(column * side, row * side, (column + 1) * side, (row + 1) * side),
    )


def read_places(places: Tensor, offset: Tensor) -> Tensor:
    """Places (1, n, 2) of a map, y and x, to the four places (1, 4 n, 2) each in the map before.

    The regular part is exact everywhere; offsets are blended between cells, and those of the border
    hold beyond it.
    """
    last = torch.tensor(offset.shape[1:3]) - 1
    inside = torch.minimum(places.clamp(min=0), last)
    shifts = sample(offset, inside).view(1, -1, 4, 2)
    corners = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    return (2 * places[:, :, None] + corners + shifts).flatten(1, 2)


def _centres(places: Tensor, patch: int) -> np.ndarray:
    """Centres x, y of the patches at places y, x of stage 1, with the image's left edge at 0."""
    return ((places[0].flip(-1) + 0.5) * patch).numpy()
