"""LIT: attention over a whole map with a bias for every pair of cells.

Deformable merging runs by its equation anyway.
"""

from torch import Tensor

from spm_mm.attention import RelativePositionAttention
from spm_mm.ops import relative_attention_reference
from spm_mm.reference.base import reference_form


@reference_form(RelativePositionAttention, 'weigh')
def weigh(
    module: RelativePositionAttention, q: Tensor, k: Tensor, v: Tensor, height: int, width: int
) -> Tensor:
    table = module.relative_position_bias_table(2 * height - 1, 2 * width - 1)[0]
    return relative_attention_reference(q, k, v, table.permute(2, 0, 1))
