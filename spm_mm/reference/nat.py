"""NAT: each query gathers the keys and values of its neighborhood (section 3.1)."""

from torch import Tensor

from spm_mm.attention import NeighborhoodAttention
from spm_mm.ops import neighborhood_attention_reference
from spm_mm.reference.base import reference_form


@reference_form(NeighborhoodAttention, 'weigh')
def weigh(module: NeighborhoodAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return neighborhood_attention_reference(q, k, v, module.relative_position_bias_table)
