"""Which cells a clustering of tokens has merged."""

import numpy as np
import torch
from torch import Tensor, nn

from spm_mm.errors import UserError
from spm_mm.merging import ClusterMerging
from spm_mm.visualization.recorder import Recorder

__all__ = ['token_clusters']


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
