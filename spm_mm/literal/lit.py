"""LIT: attention over a whole map with a bias for every pair, and deformable merging by gathering."""

from torch import Tensor
from torch.nn import functional as F

from spm_mm.attention import RelativePositionAttention
from spm_mm.layers import conv_on_map
from spm_mm.literal.base import literal_form
from spm_mm.merging import DeformableMerging
from spm_mm.ops import deform_conv_reference, relative_attention_reference


@literal_form(RelativePositionAttention, 'weigh')
def weigh(
    module: RelativePositionAttention, q: Tensor, k: Tensor, v: Tensor, height: int, width: int
) -> Tensor:
    table = module.relative_position_bias_table(2 * height - 1, 2 * width - 1)[0]
    return relative_attention_reference(q, k, v, table.permute(2, 0, 1))


@literal_form(DeformableMerging)
def merge(module: DeformableMerging, x: Tensor) -> Tensor:
    offset = conv_on_map(module.offset, x)
    x = deform_conv_reference(x, offset, module.conv.weight, module.conv.bias)
    return F.gelu(conv_on_map(module.norm, x))
