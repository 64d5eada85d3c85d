"""``torch.func``: models as functions of their weights, gradients of single images, directions."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.pytorch_tools.conftest import Subject, assert_same, declared, each_subject, image, loss


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@each_subject
def test_functional_call(subject: Subject) -> None:
    """Other weights than the model's own, which stay as they are."""
    model = subject.build()
    others = {name: 1.1 * value for name, value in weights_of(model).items()}
    with torch.no_grad():
        outs = functional_call(model, others, (image(),))
        before = model(image())
        model.load_state_dict(others, strict=False)
        assert_same(outs, model(image()))
        assert any(not torch.allclose(*pair) for pair in zip(outs, before, strict=True))


@each_subject
def test_gradients_of_single_images(subject: Subject) -> None:
    """All at once by ``vmap``, as for differential privacy, and one after the other.

    What declares that it cannot must say so by an error, here and below.
    """
    model = subject.build()
    weights, images = weights_of(model), image(3)

    def loss_of(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return loss(functional_call(model, weights, (x[None],)))

    if 'vmap' in declared(model, 'unsupported_transforms'):
        with pytest.raises((RuntimeError, NotImplementedError)):
            vmap(grad(loss_of), in_dims=(None, 0))(weights, images)
        return
    at_once = vmap(grad(loss_of), in_dims=(None, 0))(weights, images)
    singly = [grad(loss_of)(weights, x) for x in images]
    for name, found in at_once.items():
        expected = torch.stack([grads[name] for grads in singly])
        assert_same([found], [expected], name)


@each_subject
def test_jvp(subject: Subject) -> None:
    """The change in a direction, forward, is the product with the gradient, backward.

    PyTorch's fused attention has no forward mode; its plain form has.
    """
    model, x = subject.build(), image()
    direction = torch.randn_like(x)
    with sdpa_kernel(SDPBackend.MATH):
        if 'jvp' in declared(model, 'unsupported_transforms'):
            with pytest.raises((RuntimeError, NotImplementedError)):
                jvp(lambda x: loss(model(x)), (x,), (direction,))
            return
        _, change = jvp(lambda x: loss(model(x)), (x,), (direction,))
        x.requires_grad_()
        loss(model(x)).backward()
    torch.testing.assert_close(change, (x.grad * direction).sum(), rtol=1e-3, atol=1e-6)
