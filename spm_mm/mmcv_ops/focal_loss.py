"""Focal losses (Lin et al. 2017, equation 5) for class indices, with their gradients."""

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.mmcv_ops.operator import full, operator

SMALLEST = torch.finfo(
    torch.float32
).tiny  # what the compiled operators take the logarithm of at least


def _class_weights(weight: Tensor, target: Tensor) -> Tensor | float:
    """Weight of each sample's class; 1 without weights and for a target that is no class."""
    if not weight.numel():
        return 1.0
    inside = (target >= 0) & (target < len(weight))
    return torch.where(inside, full(weight)[target.clamp(0, len(weight) - 1)], 1.0)


def _sigmoid_terms(input: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple:
    """Factor of each element (N, classes), probability of its truth, and that one's logarithm."""
    classes = torch.arange(input.shape[1], device=input.device)
    positive = target[:, None] == classes
    logits = torch.where(positive, input, -input)
    factor = torch.where(positive, alpha, 1 - alpha).to(input.dtype)
    weights = _class_weights(weight, target)
    factor = factor * (weights[:, None] if isinstance(weights, Tensor) else weights)
    return positive, factor, logits.sigmoid(), F.logsigmoid(logits)


@operator
def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write -alpha (1 - p)^gamma log(p) of every logit (N, classes).

    A target (N,) that is no class, such as the number of classes, is background: negative for all.
    """
    _, factor, p, log_p = _sigmoid_terms(full(input), target, weight, alpha)
    output.copy_(-factor * (1 - p) ** gamma * log_p)


@operator
def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of every element's loss with respect to its logit."""
    positive, factor, p, log_p = _sigmoid_terms(full(input), target, weight, alpha)
    grad = factor * (1 - p) ** gamma * (gamma * p * log_p - (1 - p))
    grad_input.copy_(torch.where(positive, grad, -grad))


def _softmax_terms(softmax: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple:
    """Factor and probability (N,) of each sample's class; factor 0 for a negative target."""
    p = full(softmax).gather(1, target.clamp(min=0)[:, None]).squeeze(1)
    return torch.where(target >= 0, alpha * _class_weights(weight, target), 0.0).to(p.dtype), p


@operator
def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write -alpha (1 - p)^gamma log(p) of every sample (N,) for probabilities (N, classes).

    A negative target is ignored.
    """
    factor, p = _softmax_terms(softmax, target, weight, alpha)
    output.copy_(-factor * (1 - p) ** gamma * p.clamp(min=SMALLEST).log())


@operator
def softmax_focal_loss_backward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivatives of every sample's loss with respect to its logits (N, classes)."""
    factor, p = _softmax_terms(softmax, target, weight, alpha)
    # The derivative of (1 - p)^gamma has a pole at 1 for gamma below 1, where log(p) is 0.
    slope = torch.where(p < 1, gamma * (1 - p) ** (gamma - 1), 0.0)
    common = factor * (slope * p * p.clamp(min=SMALLEST).log() - (1 - p) ** gamma)
    classes = torch.arange(softmax.shape[1], device=softmax.device)
    grad_input.copy_(common[:, None] * ((target[:, None] == classes).to(p.dtype) - full(softmax)))
