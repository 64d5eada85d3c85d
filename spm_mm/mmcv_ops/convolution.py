"""CARAFE upsampling (Wang et al. 2019) and convolution at chosen places alone."""

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.mmcv_ops.operator import full, operator


def _windows(padded: Tensor, kernel_size: int, group_size: int) -> list[Tensor]:
    """Views (B, groups, C / groups, H, 1, W, 1) of a padded map (B, C, ...), one for every tap."""
    padded = padded.unflatten(1, (group_size, -1))
    height, width = (side - kernel_size + 1 for side in padded.shape[3:])
    return [
        padded[..., y : y + height, None, x : x + width, None]
        for y in range(kernel_size)
        for x in range(kernel_size)
    ]


def _taps(masks: Tensor, group_size: int, scale_factor: int) -> tuple[Tensor, ...]:
    """Masks (B, groups, 1, H, s, W, s) of every tap: times its window they are part of the output."""
    height, width = (side // scale_factor for side in masks.shape[2:])
    sides = height, scale_factor, width, scale_factor
    return full(masks).reshape(len(masks), group_size, -1, 1, *sides).unbind(2)


@operator
def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the features (B, C, H, W), upsampled s times by a kernel of its own for each place.

    ``masks`` holds the kernels, (B, group_size x kernel_size^2, s x H, s x W).
    """
    padded = F.pad(full(features), 4 * [kernel_size // 2])
    windows = _windows(padded, kernel_size, group_size)
    taps = _taps(masks, group_size, scale_factor)
    total = sum(window * mask for window, mask in zip(windows, taps, strict=True))
    output.copy_(total.reshape(output.shape))


@operator
def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of features and masks."""
    border = kernel_size // 2
    padded = F.pad(full(features), 4 * [border])
    grad_padded = torch.zeros_like(padded)
    taps = _taps(masks, group_size, scale_factor)
    grad = full(grad_output).reshape(len(masks), group_size, -1, *taps[0].shape[3:])
    windows, grad_windows = (_windows(x, kernel_size, group_size) for x in (padded, grad_padded))
    for grad_window, mask in zip(grad_windows, taps, strict=True):
        grad_window += (grad * mask).sum((4, 6), keepdim=True)
    grad_input.copy_(F.pad(grad_padded, 4 * [-border]))
    grad_taps = [(grad * window).sum(2) for window in windows]
    grad_masks.copy_(torch.stack(grad_taps, 2).reshape(grad_masks.shape))


@operator
def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    **options: int,
) -> None:
    """As ``carafe_naive_forward``; ``rfeatures`` takes the features for the backward pass."""
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, **options)


@operator
def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    **options: int,
) -> None:
    """As ``carafe_naive_backward``."""
    carafe_naive_backward(grad_output, rfeatures, masks, grad_input, grad_masks, **options)


@operator
def masked_im2col_forward(
    features: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    data_col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Write the windows of a map (1, C, H, W) at n places into the columns (C x kH x kW, n)."""
    padded = F.pad(features[0], (pad_w, kernel_w - 1, pad_h, kernel_h - 1))
    rows = mask_h_idx + torch.arange(kernel_h, device=features.device)[:, None, None]
    columns = mask_w_idx + torch.arange(kernel_w, device=features.device)[:, None]
    data_col.copy_(padded[:, rows, columns].reshape(data_col.shape))


@operator
def masked_col2im_forward(
    columns: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    output: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write columns (C, n) to their places of a map (1, C, H, W)."""
    output[0, :, mask_h_idx, mask_w_idx] = columns
