"""The parts of mmcv's own synchronized batch norm (``MMSyncBN``), between which it talks to the others.

Inputs are (B, C, N); statistics are float32.
"""

from torch import Tensor

from spm_mm.mmcv_ops.operator import full, operator


@operator
def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Write the mean of every channel (C,)."""
    mean.copy_(full(input).mean((0, 2)))


@operator
def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Write the mean square distance from ``mean`` (C,)."""
    var.copy_((full(input) - mean[:, None]).square().mean((0, 2)))


@operator
def sync_bn_forward_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    eps: float,
    momentum: Tensor | float,
    group_size: int,
) -> None:
    """Write the normalized input ``norm``, its affine ``output`` and ``std``, update the averages."""
    std.copy_((var + eps).sqrt())
    norm.copy_((full(input) - mean[:, None]) / std[:, None])
    output.copy_(norm * weight[:, None] + bias[:, None])
    count = input.shape[0] * input.shape[2] * group_size
    unbiased = var * (count / (count - 1)) if count > 1 else var
    for average, value in ((running_mean, mean), (running_var, unbiased)):
        average.copy_(momentum * value + (1 - momentum) * average)


@operator
def sync_bn_backward_param(
    grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor
) -> None:
    """Write the gradients of weight and bias (C,)."""
    grad_weight.copy_((full(grad_output) * norm).sum((0, 2)))
    grad_bias.copy_(full(grad_output).sum((0, 2)))


@operator
def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Write the gradient of the input from that of the output and the sums over all processes."""
    count = grad_output.shape[0] * grad_output.shape[2]
    common = (grad_weight[:, None] * norm + grad_bias[:, None]) / count
    grad_input.copy_((weight / std)[:, None] * (full(grad_output) - common))
