"""Linear layers whose backward pass keeps little, and whose products take oneDNN where it is faster.

An MLP's hidden layer is its largest map by far. Autograd keeps it twice, before and after the
activation; :func:`gelu_linear` keeps it once and computes the other again when it is needed. That
takes one more GELU, a few percent of an MLP's time, and saves about a third of what a transformer
keeps.

PyTorch's float32 products on the CPU are those of MKL, which on processors of AMD reaches two thirds to
nine tenths of what oneDNN reaches. A linear layer on many rows is a 1x1 convolution of a channels-last
image, and PyTorch gives those to oneDNN.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ONEDNN_FROM = 2**22
"""Multiply-accumulates of a product from which on oneDNN takes it: setting it up takes a while."""


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
        return _product(x, weight, bias)
    return _Linear.apply(x, weight, bias, False)


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Linear layer on the exact GELU of ``x``; arguments as in :func:`linear`."""
    if _traced() or not torch.is_grad_enabled():
        return linear(F.gelu(x), weight, bias)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return _Linear.apply(x, weight, bias, True)


def gelu_linear_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The definition of :func:`gelu_linear`."""
    return F.linear(F.gelu(x), weight, bias)


class _Linear(torch.autograd.Function):
    """A linear layer, on the GELU of its input if ``activate``."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, activate: bool) -> Tensor:
        return _product(F.gelu(x) if activate else x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, _, ctx.activate = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        rows = grad.flatten(0, -2)
        if wanted[1]:
            read = F.gelu(x) if ctx.activate else x
            grad_weight = rows.T @ read.flatten(0, -2)
        if wanted[2]:
            grad_bias = rows.sum(dim=0)
        if wanted[0]:
            grad_x = _product(grad, weight.T.contiguous(), None)
            if ctx.activate:
                grad_x = torch.ops.aten.gelu_backward(grad_x, x)
        return grad_x, grad_weight, grad_bias, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not _takes_onednn(x, weight):
        return F.linear(x, weight, bias)
    image = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    kernel = weight[:, :, None, None]
    out = torch.mkldnn_convolution(image, kernel, bias, (0, 0), (1, 1), (1, 1), 1)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def _traced() -> bool:
    """Whether a compiler or an exporter reads along: it decides by itself what to keep and to call."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _takes_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not _traced()
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * len(weight) >= ONEDNN_FROM
        and not torch.is_autocast_enabled('cpu')
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
    )
