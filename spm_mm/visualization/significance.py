"""What SG-Former finds significant, and which tokens it merges into one.

"SG-Former: Self-guided Transformer with Evolving Token Reallocation", https://arxiv.org/abs/2308.12216,
sections 3.2 and 3.3, Figure 2.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from spm_mm.attention import SelfGuidedAttention
from spm_mm.errors import UserError
from spm_mm.visualization.recorder import Recorder

__all__ = [
    'Aggregation',
    'aggregation_of_block',
    'self_guided_blocks',
    'share_of_most_significant',
    'uniform_aggregation',
]


@dataclass(frozen=True)
class Aggregation:
    """What a self-guided block does with the cells of its map, each array (H, W)."""

    significance: np.ndarray
    """Attention that the cell received in the block before."""
    rates: np.ndarray
    """Aggregation rate of the cell's region."""
    merged: np.ndarray
    """Number of the merged token that the cell goes into, from the least significant one on; the
    first of them where it goes into two."""


def self_guided_blocks(stage: nn.Module) -> list[int]:
    """Numbers of the self-guided blocks of a stage of SG-Former; none of other families."""
    return [
        j
        for j, block in enumerate(stage.blocks)
        if isinstance(getattr(block, 'attn', None), SelfGuidedAttention)
    ]


def aggregation_of_block(backbone: nn.Module, image: Tensor, stage: int, block: int) -> Aggregation:
    """Run a backbone on one image and look into one self-guided block.

    Args:
        backbone: SG-Former in evaluation mode.
        image: (1, 3, H, W).
        stage: Number of the stage, from 0.
        block: Number of the block in it, from 0.

    Raises:
        UserError: If there is no such self-guided block.
    """
    blocks = self_guided_blocks(backbone.stages[stage]) if stage < len(backbone.stages) else []
    if block not in blocks:
        raise UserError(
            f'stage {stage + 1} of {type(backbone).__name__} has no self-guided block {block}:'
            f' allowed are {blocks}'
        )
    before = f'stages.{stage}.blocks.{block - 1}'
    with torch.no_grad(), Recorder(backbone, modules=[before]) as seen:
        backbone(image)
    significance = seen.outputs[before][1].cpu()
    attention = backbone.stages[stage].blocks[block].attn
    rates, merged = (np.zeros(significance[0].numel(), int) for _ in range(2))
    last = 0
    for (_, rate), runs in zip(attention.regions, attention.runs(significance), strict=True):
        run = runs[0].numpy()
        rates[run] = rate
        for number in reversed(range(len(run))):
            merged[run[number]] = last + number
        last += len(run)
    grid = tuple(significance.shape[1:])
    return Aggregation(significance[0].numpy(), rates.reshape(grid), merged.reshape(grid))


def uniform_aggregation(grid: tuple[int, int], ratio: int) -> np.ndarray:
    """Number of the token that each cell goes into where squares of cells become one, as in PVT.

    Args:
        grid: Rows and columns of the feature map.
        ratio: Side of the squares, in cells; those at the right and at the bottom may be smaller.

    Returns:
        Integers (rows, columns).
    """
    rows, columns = (np.arange(side) // ratio for side in grid)
    return rows[:, None] * (columns[-1] + 1) + columns


def share_of_most_significant(
    significance: np.ndarray, merged: np.ndarray, share: float = 0.25
) -> float:
    """How much of the merged tokens the most significant cells keep.

    A token counts for a cell by the part of its cells that the cell is.

    Args:
        significance: Significance of each cell (H, W).
        merged: Number of the merged token of each cell (H, W).
        share: Share of the cells that are taken, the most significant ones.

    Returns:
        From 0 to 1; ``share`` where all cells count alike.
    """
    weights = 1 / np.bincount(merged.ravel())[merged.ravel()]
    best = significance.argsort(axis=None)[::-1][: round(share * merged.size)]
    return float(weights[best].sum() / weights.sum())
