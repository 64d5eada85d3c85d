from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spm_mm.layers import PositionEmbedding
from spm_mm.ops import TokenMap, by_token


class Stage(nn.Module):
    """Position embedding, the blocks of a stage one after the other, norm.

    A stage takes a feature map and optional guidance, and returns ``(features, extra)``: here the
    feature map and None. A stage of tokens takes and returns a :class:`~spm_mm.ops.TokenMap`.

    Args:
        blocks: The blocks, each from features to features of the same shape.
        norm: LayerNorm behind them, which the next stage reads, too. Default: none.
        position: Position embedding before them. Default: none.

    Shape: feature map (B, H, W, C) to a feature map (B, H, W, C) and None; tokens likewise.
    """

    with_cp: bool = False
    """Whether the blocks are recomputed in the backward pass; the backbone sets it."""

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        norm: nn.Module | None = None,
        position: PositionEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.position = position
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, x: Tensor | TokenMap) -> tuple[Tensor | TokenMap, Any]:
        x = self.embed(x)
        for block in self.blocks:
            x = self.run(block, x)
        return by_token(self.norm, x), None

    def embed(self, x: Tensor | TokenMap) -> Tensor | TokenMap:
        """Add the position embedding, if there is one."""
        return x if self.position is None else x + self.position(*x.shape[1:3])

    def run(self, block: nn.Module, *inputs: Any) -> Any:
        """Run one block, recomputed in the backward pass if ``with_cp``."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)
