"""SPM: guided local enhancement (Eq. 4). Its multi-scale aggregation runs by its equation anyway."""

from torch import Tensor

from spm_mm.merging import GuidedLocalEnhancement
from spm_mm.reference.base import reference_form


@reference_form(GuidedLocalEnhancement, 'attend')
def attend_in_windows(
    module: GuidedLocalEnhancement, tokens: Tensor, mask: Tensor | None
) -> Tensor:
    """All tokens of a window ask, and the guide's answer is kept."""
    n, t, c = tokens.shape
    q, k, v = module.qkv(tokens).view(n, t, 3, module.num_heads, -1).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], float('-inf'))
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, t, c)[:, 0]
