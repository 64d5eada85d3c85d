"""Multi-scale deformable attention (Zhu et al. 2021) and the point-wise attention mask of PSANet."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.mmcv_ops.operator import full, gradients, operator


def _attend(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of samples of one level.

    Args:
        value: Heads' feature maps, (B x M, D, H, W).
        locations: Where to sample, 0 to 1 over the map, x before y, (B x M, Q, P, 2).
        weights: (B x M, Q, P).

    Returns:
        (B x M, D, Q).
    """
    samples = F.grid_sample(value, 2 * locations - 1, align_corners=False)
    return torch.einsum('bdqp,bqp->bdq', samples, weights)


def _levels(
    value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Arguments of ``_attend`` for each level, and where its tokens are in ``value`` (B, S, M, D)."""
    batch, _, heads, width = value.shape
    start = 0
    # mmcv's module has compared the shapes with the tokens on the CPU just before: no further wait.
    for level, (height, length) in enumerate(shapes.tolist()):
        tokens = slice(start, start := start + height * length)
        yield (
            tokens,
            value[:, tokens].permute(0, 2, 3, 1).reshape(batch * heads, width, height, length),
            locations[:, :, :, level].transpose(1, 2).flatten(0, 1),
            weights[:, :, :, level].transpose(1, 2).flatten(0, 1),
        )


@operator
def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Attend to P points on each of L levels.

    Args:
        value: Tokens of all levels, (B, S, M heads, D).
        spatial_shapes: Height and width of each level, (L, 2).
        level_start_index: First token of each level, (L,); follows from the shapes.
        sampling_locations: 0 to 1 over each level, x before y, (B, Q, M, L, P, 2).
        attention_weights: (B, Q, M, L, P).
        im2col_step: Images at once; all.

    Returns:
        (B, Q, M x D).
    """
    batch, _, heads, width = value.shape
    arguments = [full(x) for x in (value, sampling_locations, attention_weights)]
    levels = _levels(arguments[0], spatial_shapes, *arguments[1:])
    output = sum(_attend(*level) for _, *level in levels)
    return output.reshape(batch, heads * width, -1).transpose(1, 2).to(value.dtype).contiguous()


@operator
def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of values, locations and weights, one level after the other."""
    batch, _, heads, width = value.shape
    arguments = [full(x) for x in (value, sampling_locations, attention_weights)]
    grad_output = full(grad_output).transpose(1, 2).reshape(batch * heads, width, -1)
    levels = _levels(arguments[0], spatial_shapes, *arguments[1:])
    for index, (tokens, *level) in enumerate(levels):
        maps, locations, weights = (
            grad.unflatten(0, (batch, heads)) for grad in gradients(_attend, level, grad_output)
        )
        grad_value[:, tokens] = maps.flatten(3).permute(0, 3, 1, 2).to(value.dtype)
        grad_sampling_loc[:, :, :, index] = locations.transpose(1, 2).to(value.dtype)
        grad_attn_weight[:, :, :, index] = weights.transpose(1, 2).to(value.dtype)


def _shear(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``y[:, a, b, h, w] = x[:, rows[a, h], columns[b, w], h, w]``, and 0 outside of x."""
    (height, width), device = x.shape[3:], x.device
    inside_rows = (rows >= 0) & (rows < x.shape[1])
    inside_columns = (columns >= 0) & (columns < x.shape[2])
    sheared = x[
        :,
        rows.clamp(0, x.shape[1] - 1)[:, None, :, None],
        columns.clamp(0, x.shape[2] - 1)[:, None],
        torch.arange(height, device=device)[:, None],
        torch.arange(width, device=device),
    ]
    return torch.where(inside_rows[:, None, :, None] & inside_columns[:, None], sheared, 0)


def _sums(rows: int, columns: int, device: torch.device, sign: int = 1) -> Tensor:
    """``y[a, b] = a + sign x b``."""
    return torch.arange(rows, device=device)[:, None] + sign * torch.arange(columns, device=device)


@operator
def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write attention of every place on every place, from masks over what lies around each.

    ``input`` (B, h_mask x w_mask, H, W) to ``output`` (B, H x W, H, W). ``psa_type`` 0 (collect) has
    the attended place in dimension 1 and the attending in the last two, 1 (distribute) the reverse.
    """
    masks = input.reshape(num_, h_mask, w_mask, h_feature, w_feature)
    rows = _sums(h_feature, h_feature, input.device, -1) + half_h_mask
    columns = _sums(w_feature, w_feature, input.device, -1) + half_w_mask
    places = h_feature * w_feature
    collected = _shear(masks, rows, columns).reshape(num_, places, places)
    output.copy_((collected.mT if psa_type else collected).view_as(output))


@operator
def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write the gradient of the masks."""
    grad = grad_output.reshape(num_, h_feature * w_feature, h_feature * w_feature)
    grad = (grad.mT if psa_type else grad).reshape(num_, *2 * (h_feature, w_feature))
    rows = _sums(h_mask, h_feature, grad.device) - half_h_mask
    columns = _sums(w_mask, w_feature, grad.device) - half_w_mask
    grad_input.copy_(_shear(grad, rows, columns).reshape(grad_input.shape))
