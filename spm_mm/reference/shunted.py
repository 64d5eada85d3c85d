"""Shunted: attention to two scales (section 3.2)."""

from torch import Tensor

from spm_mm.attention import LocalValueAttention, ShuntedAttention
from spm_mm.reference.base import reference_form
from spm_mm.reference.pvt import attend


@reference_form(ShuntedAttention, 'weigh')
def weigh(module: ShuntedAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v)


@reference_form(LocalValueAttention, 'weigh')
def weigh_and_enhance(
    module: LocalValueAttention, q: Tensor, k: Tensor, v: Tensor, height: int, width: int
) -> Tensor:
    return attend(q, k, v) + module.enhance(v, height, width)
