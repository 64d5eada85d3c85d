"""SG-Former: hybrid-scale attention, whose weights say what is significant (section 3.3)."""

import torch
from torch import Tensor

from spm_mm.attention.self_guided import ScaleAttention
from spm_mm.reference.base import reference_form


@reference_form(ScaleAttention, 'weigh')
def weigh_and_measure(
    module: ScaleAttention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_mask: Tensor | None,
    query_mask: Tensor | None,
    significance: bool,
) -> tuple[Tensor, Tensor | None]:
    """One matrix of weights serves the output and the significance."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if key_mask is not None:
        scores = scores.masked_fill(~key_mask[:, None, None], float('-inf'))
    weights = scores.softmax(dim=-1)
    received = None
    if significance:
        with torch.no_grad():
            counted = weights if query_mask is None else weights * query_mask[:, None, :, None]
            received = counted.mean(dim=(1, 2))
    return weights @ v, received
