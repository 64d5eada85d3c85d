from torch import Tensor

from spm_mm.attention.spatial_reduction import SpatialReductionAttention
from spm_mm.layers import PositionEmbedding
from spm_mm.ops import relative_attention


class RelativePositionAttention(SpatialReductionAttention):
    """Multi-head attention over a whole map, with a learned bias for each shift between two tokens.

    The bias table has one number per head for every shift (rows, columns) that a map of ``grid_size``
    has; for another map it is resized bicubically, in the forward pass and when a checkpoint is
    loaded, as LIT's official detection and segmentation code does.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G; must divide ``channels``.
        grid_size: Rows and columns of the map that the table is made for.
        qkv_bias: Whether query, key and value projections have a bias.

    Shape: map (B, H, W, C) to the same shape.

    Raises:
        ValueError: If ``num_heads`` does not divide ``channels``.
    """

    def __init__(
        self, channels: int, num_heads: int, grid_size: tuple[int, int], qkv_bias: bool = True
    ) -> None:
        super().__init__(channels, num_heads, 1, qkv_bias)
        rows, columns = (2 * side - 1 for side in grid_size)
        # The field's name: configs leave it out of weight decay by it.
        self.relative_position_bias_table = PositionEmbedding(
            (rows, columns), num_heads, mode='bicubic'
        )

    def weigh(self, q: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> Tensor:
        table = self.relative_position_bias_table(2 * height - 1, 2 * width - 1)[0]
        return relative_attention(q, k, v, table.permute(2, 0, 1))
