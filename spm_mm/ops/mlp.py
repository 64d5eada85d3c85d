"""The two linear layers of an MLP as one operator, whose hidden layer stays in the processor's cache.

Its hidden layer is an MLP's largest map by far. On the CPU it is made, used and differentiated part by
part, so that neither it nor its gradient crosses the memory whole; only the GELU's input is kept, as in
:func:`spm_mm.ops.gelu_linear`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.ops.linear import (
    back_product,
    gelu_linear,
    gelu_linear_reference,
    in_parts,
    linear,
    once_more,
    product,
    runs_eagerly,
)


def mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Linear layer, exact GELU, linear layer.

    Args:
        x: (..., C).
        weight1: (D, C), D the width of the hidden layer.
        bias1: (D,).
        weight2: (C', D).
        bias2: (C',).

    Returns:
        (..., C').
    """
    by_parts = runs_eagerly(x) and x.device.type == 'cpu' and not torch.is_autocast_enabled('cpu')
    if not by_parts:
        return gelu_linear(linear(x, weight1, bias1), weight2, bias2)
    if torch.is_grad_enabled():
        return _MLP.apply(x, weight1, bias1, weight2, bias2)[0]
    return _output(x, _hidden_parts(x, weight1, bias1), weight2, bias2)


def mlp_reference(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """The definition of :func:`mlp`."""
    return gelu_linear_reference(F.linear(x, weight1, bias1), weight2, bias2)


def _hidden_parts(x: Tensor, weight1: Tensor, bias1: Tensor) -> Iterator[Tensor]:
    for rows in in_parts(x, len(weight1)):
        yield product(rows, weight1, bias1)


def _output(x: Tensor, hidden: Iterable[Tensor], weight2: Tensor, bias2: Tensor) -> Tensor:
    out = torch.cat([product(F.gelu(part), weight2, bias2) for part in hidden])
    return out.view(*x.shape[:-1], len(weight2))


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
    ) -> tuple[Tensor, ...]:
        hidden = list(_hidden_parts(x, weight1, bias1))
        return _output(x, hidden, weight2, bias2), *hidden

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        inputs, hidden = saved[:5], saved[5:]
        with torch.autocast('cpu', enabled=False):
            if torch.is_grad_enabled():  # somebody differentiates once more
                return once_more(mlp_reference, inputs, grad)
            return _gradients(*inputs, hidden, grad, ctx.needs_input_grad)


def _gradients(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    hidden: Sequence[Tensor],
    grad: Tensor,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    wants_x, *wants_weights = wanted
    rows, grad = x.flatten(0, -2), grad.flatten(0, -2)
    step = max(1, len(hidden[0]))
    grads_x = []
    grad_weight1, grad_weight2 = torch.zeros_like(weight1), torch.zeros_like(weight2)
    grad_bias1 = torch.zeros_like(bias1)
    for part, of_out, of_hidden in zip(rows.split(step), grad.split(step), hidden, strict=True):
        if any(wants_weights):
            grad_weight2.addmm_(of_out.T, F.gelu(of_hidden))
        back = back_product(of_out, weight2)
        torch.ops.aten.gelu_backward.grad_input(back, of_hidden, grad_input=back)
        if any(wants_weights):
            grad_weight1.addmm_(back.T, part)
            grad_bias1 += back.sum(dim=0)
        if wants_x:
            grads_x.append(back_product(back, weight1))
    grad_x = torch.cat(grads_x).view(x.shape) if wants_x else None
    return grad_x, grad_weight1, grad_bias1, grad_weight2, grad.sum(dim=0)
