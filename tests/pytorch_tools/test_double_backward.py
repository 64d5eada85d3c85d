"""Second derivatives, as in gradient penalties and sharpness."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.pytorch_tools.conftest import Subject, declared, each_subject, image, loss


@each_subject
def test_gradient_penalty(subject: Subject) -> None:
    """Against differences of first derivatives in a random direction of the weights, in float64.

    PyTorch's fused attention has no second derivative; its plain form has.
    """
    model = subject.build().double()
    weights = list(model.parameters())
    x = image().double().requires_grad_()

    def penalty() -> torch.Tensor:
        return torch.autograd.grad(loss(model(x)), x, create_graph=True)[0].square().sum()

    with sdpa_kernel(SDPBackend.MATH):
        if 'double_backward' in declared(model, 'unsupported_transforms'):
            with pytest.raises((RuntimeError, NotImplementedError)):
                torch.autograd.grad(penalty(), weights, allow_unused=True)
            return
        grads = torch.autograd.grad(penalty(), weights, allow_unused=True)
        directions = [torch.randn_like(weight) for weight in weights]
        found = sum((g * d).sum() for g, d in zip(grads, directions, strict=True) if g is not None)
        step, values = 1e-8, []
        for sign in (1, -2):
            with torch.no_grad():
                for weight, direction in zip(weights, directions, strict=True):
                    weight += sign * step * direction
            values.append(penalty().detach())
    expected = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-8)
