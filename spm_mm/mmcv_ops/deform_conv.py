"""Deformable convolution (Dai et al. 2017) and its modulated form (Zhu et al. 2019), by torchvision.

Shapes: input (B, C, H, W), weight (O, C / group, kH, kW), offset (B, 2 x groups x kH x kW, H', W') with
y before x, mask (B, groups x kH x kW, H', W'). Half precision is computed in float32.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from spm_mm.mmcv_ops.operator import full, operator, vision

# The options of each version that torchvision takes, in its order: stride, padding, dilation, groups.
GROUPS = 'group', 'deformable_group'
FIRST = 'dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', *GROUPS
MODULATED = 'stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w', *GROUPS


def _geometry(names: Sequence[str], options: Mapping[str, int]) -> list[int]:
    return [options[name] for name in names]


def _arguments(input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None) -> list[Tensor]:
    """What torchvision's two operators take first: all contiguous, a mask of (B, 1) for none."""
    mask = input.new_zeros(len(input), 1) if mask is None else mask
    return [full(x).contiguous() for x in (input, weight, offset, mask)]


@operator
def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **options: int,
) -> None:
    """Write the convolution into ``output``."""
    arguments = _arguments(input, weight, offset, None)
    bias = arguments[0].new_zeros(len(weight))
    output.copy_(vision.deform_conv2d(*arguments, bias, *_geometry(FIRST, options), False))


def _backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    geometry: Sequence[int],
) -> tuple[Tensor, ...]:
    """Gradients of input, weight, offset, mask and bias."""
    arguments = _arguments(input, weight, offset, mask)
    bias = arguments[0].new_zeros(len(weight))
    return vision._deform_conv2d_backward(
        full(grad_output).contiguous(), *arguments, bias, *geometry, mask is not None
    )


@operator
def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **options: int,
) -> None:
    """Write the gradients of input and offset.

    torchvision computes the weight's with them: it waits in the working memory ``columns``, which mmcv
    hands to ``deform_conv_backward_parameters`` next.
    """
    grads = _backward(grad_output, input, weight, offset, None, _geometry(FIRST, options))
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[2])
    columns.resize_(weight.shape).copy_(grads[1])


@operator
def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    **options: int,
) -> None:
    """Add the gradient of the weight, times ``scale``, to ``grad_weight``."""
    if columns.shape == grad_weight.shape:
        grad = columns
    else:
        grad = _backward(grad_output, input, grad_weight, offset, None, _geometry(FIRST, options))[
            1
        ]
    grad_weight.add_(grad, alpha=options['scale'])


@operator
def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **options: int,
) -> None:
    """Write the modulated convolution into ``output``."""
    arguments = _arguments(input, weight, offset, mask)
    bias = full(bias) if options['with_bias'] else arguments[0].new_zeros(len(weight))
    geometry = _geometry(MODULATED, options)
    output.copy_(vision.deform_conv2d(*arguments, bias, *geometry, True))


@operator
def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    **options: int,
) -> None:
    """Write the gradients of all inputs."""
    grads = _backward(grad_output, input, weight, offset, mask, _geometry(MODULATED, options))
    for target, grad in zip((grad_input, grad_weight, grad_offset, grad_mask), grads, strict=False):
        target.copy_(grad)
    if options['with_bias']:
        grad_bias.copy_(grads[4])
