"""Shunted: attention to two scales (section 3.2)."""

from torch import Tensor

from spm_mm.attention import LocalValueAttention, ShuntedAttention
from spm_mm.literal.base import literal_form
from spm_mm.literal.pvt import attend


@literal_form(ShuntedAttention, 'weigh')
def weigh(module: ShuntedAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v)


@literal_form(LocalValueAttention, 'weigh')
def weigh_and_enhance(
    module: LocalValueAttention, q: Tensor, k: Tensor, v: Tensor, height: int, width: int
) -> Tensor:
    return attend(q, k, v) + module.enhance(v, height, width)
