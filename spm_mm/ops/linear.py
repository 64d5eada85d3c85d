"""Linear layers whose backward pass keeps little, and whose products take oneDNN where it is faster.

An MLP's hidden layer is its largest map by far. Autograd keeps it twice, before and after the
activation; :func:`gelu_linear` keeps it once and computes the other again when it is needed. That
takes one more GELU, a few percent of an MLP's time, and saves about a third of what a transformer
keeps.

PyTorch's float32 products on the CPU are those of MKL, which for many rows on processors of AMD
reaches two thirds to nine tenths of what oneDNN reaches. A linear layer is a 1x1 convolution of a
channels-last image, and PyTorch gives those to oneDNN. With few rows the weights, which oneDNN
reorders, are the larger part, and MKL wins.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ONEDNN_FROM = 2**22
"""Multiply-accumulates of a product from which on oneDNN takes it: setting it up takes a while."""
ONEDNN_ROWS = 1024
"""Rows from which on oneDNN takes it: below, reordering the weights takes more than it saves."""
PART = 2**21
"""Numbers of a hidden layer at a time on the CPU, 8 MiB: what is made of them stays in its cache."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Linear layer: :func:`torch.nn.functional.linear`, but for the library behind it.

    Args:
        x: (..., C).
        weight: (C', C).
        bias: (C',) or None.

    Returns:
        (..., C').
    """
    if not _takes_onednn(x, weight):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return product(x, weight, bias)
    return _Linear.apply(x, weight, bias)


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Linear layer on the exact GELU of ``x``; arguments as in :func:`linear`."""
    if not runs_eagerly(x):
        return gelu_linear_reference(x, weight, bias)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if not torch.is_grad_enabled():
        return _gelu_product(x, weight, bias)
    return _GELULinear.apply(x, weight, bias)


def gelu_linear_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The definition of :func:`gelu_linear`."""
    return F.linear(F.gelu(x), weight, bias)


def in_parts(x: Tensor, width: int) -> Sequence[Tensor]:
    """The rows of ``x``, all at once, or in parts where that is faster.

    On the CPU a hidden layer of much more than :data:`PART` numbers is faster made and used part by
    part. With less than 32 bits all rows stay together, since gradients are summed over the parts.

    Args:
        x: (..., C).
        width: Numbers of a row's hidden layer.

    Returns:
        Maps (N_i, C) that together have all rows, in order.
    """
    rows = x.flatten(0, -2)
    large = len(rows) * width > 2 * PART and x.dtype.itemsize >= 4
    if not runs_eagerly(x) or x.device.type != 'cpu' or not large:
        return [rows]
    count = min(-(-len(rows) * width // PART), max(1, len(rows) // ONEDNN_ROWS))
    return rows.split(-(-len(rows) // count))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            back_product(grad, weight) if wanted[0] else None,
            rows.T @ x.flatten(0, -2) if wanted[1] else None,
            rows.sum(dim=0) if wanted[2] else None,
        )


class _GELULinear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _gelu_product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            if torch.is_grad_enabled():  # somebody differentiates once more
                return once_more(gelu_linear_reference, inputs, grad)
            return _gradients(*inputs, grad, ctx.needs_input_grad)


def _gradients(
    x: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    rows = grad.flatten(0, -2)
    grad_x = x.new_empty(len(rows), x.shape[-1]) if wanted[0] else None
    grad_weight = torch.zeros_like(weight) if wanted[1] else None
    start = 0
    for part in in_parts(x, x.shape[-1]):
        place = slice(start, start + len(part))
        start = place.stop
        if wanted[0]:
            back = back_product(rows[place], weight)
            torch.ops.aten.gelu_backward.grad_input(back, part, grad_input=grad_x[place])
        if wanted[1]:
            grad_weight.addmm_(rows[place].T, F.gelu(part))
    return (
        grad_x.view(x.shape) if wanted[0] else None,
        grad_weight,
        rows.sum(dim=0) if wanted[2] else None,
    )


def _gelu_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    outs = [product(F.gelu(part), weight, bias) for part in in_parts(x, x.shape[-1])]
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    return out.view(*x.shape[:-1], len(weight))


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer by the faster library, without a graph for gradients."""
    if not _takes_onednn(x, weight):
        return F.linear(x, weight, bias)
    image = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    kernel = weight[:, :, None, None]
    out = torch.mkldnn_convolution(image, kernel, bias, (0, 0), (1, 1), (1, 1), 1)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def back_product(grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient of a linear layer's input, of the gradient of its output."""
    if not _takes_onednn(grad, weight.T):
        return grad @ weight
    return product(grad, weight.T.contiguous(), None)


def once_more(
    function: Callable[..., Tensor], inputs: Sequence[Tensor | None], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of a function's inputs that can be differentiated themselves, by autograd.

    Args:
        function: What the operator computes, in operators that autograd knows.
        inputs: Its arguments; None and those that need no gradient get None.
        grad: Gradient of its output.
    """
    # New names for the inputs: one may depend on another, or be there twice.
    fresh = [x.view_as(x) if x is not None and x.requires_grad else x for x in inputs]
    wanted = [x for x in fresh if x is not None and x.requires_grad]
    grads = iter(torch.autograd.grad(function(*fresh), wanted, grad, create_graph=True))
    return tuple(next(grads) if x is not None and x.requires_grad else None for x in fresh)


def runs_eagerly(x: Tensor) -> bool:
    """Whether operators run as they are called.

    Where a compiler or an exporter reads along, it decides by itself what to keep and to fuse; on the
    ``meta`` device nothing is computed.
    """
    return not (x.is_meta or torch.compiler.is_compiling() or torch.jit.is_tracing())


def _takes_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        runs_eagerly(x)
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= ONEDNN_ROWS * x.shape[-1]
        and x.numel() * len(weight) >= ONEDNN_FROM
        and not torch.is_autocast_enabled('cpu')
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
    )
