"""What all operators share."""

import functools
from collections.abc import Callable, Sequence

import torch
import torchvision  # noqa: F401, which registers its operators
from torch import Tensor

# Elements of one temporary tensor, above which an operator works through its boxes in parts.
CHUNK = 1 << 24


vision = torch.ops.torchvision
OPERATORS: dict[str, Callable] = {}


def operator(function: Callable) -> Callable:
    """Enter a function among the operators, which run outside autograd and autocast.

    The first argument is a tensor. mmcv's own autograd functions call the operators.
    """

    @functools.wraps(function)
    def run(first: Tensor, *args, **kwargs):
        with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
            return function(first, *args, **kwargs)

    OPERATORS[function.__name__] = run
    return run


def full(x: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision (float16, bfloat16), else itself."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def gradients(
    function: Callable, inputs: Sequence[Tensor], grad_output: Tensor
) -> Sequence[Tensor]:
    """Gradients of ``function(*inputs)`` with respect to all inputs, by computing it again."""
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in inputs]
        return torch.autograd.grad(function(*leaves), leaves, grad_output)
