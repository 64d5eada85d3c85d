"""What SG-Former finds significant, and which tokens it merges into one (SG-Former, Figure 2)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from spm_mm.attention import SelfGuidedAttention
from spm_mm.errors import UserError
from spm_mm.visualization.recorder import Recorder

__all__ = ['Aggregation', 'aggregation_of_block', 'self_guided_blocks']


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
    significance = seen.outputs[before][1]
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
