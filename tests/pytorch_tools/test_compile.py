"""``torch.compile``: one graph of every model, at a fixed and at changing sizes, with gradients.

The back end ``'eager'`` runs the graph as it is; inductor takes long and gets two models.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests.pytorch_tools.conftest import Subject, assert_same, each_subject, image, loss

INDUCTOR = [Subject('PVT', 'tiny', 'StepwiseMerging'), Subject('SwinTransformer', 'tiny')]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def check(model: nn.Module, sizes: list[tuple[int, int]], **options: object) -> None:
    """The same outputs and gradients by one graph, in place, as the tools compile a backbone."""
    expected = []
    for size in sizes:
        model.zero_grad()
        outs = model(image(size=size))
        loss(outs).backward()
        expected.append((outs, [p.grad for p in model.parameters()]))
    model.compile(fullgraph=True, **options)
    for size, (outs, grads) in zip(sizes, expected, strict=True):
        model.zero_grad()
        compiled = model(image(size=size))
        assert_same(compiled, outs)
        loss(compiled).backward()
        assert_same([p.grad for p in model.parameters()], grads, 'gradient')


@each_subject
def test_fixed_size(subject: Subject) -> None:
    check(subject.build(), [(64, 64)], backend='eager', dynamic=False)


@pytest.mark.slow
@each_subject
def test_changing_sizes(subject: Subject) -> None:
    model = subject.build()
    if not model.has_dynamic_graph:
        pytest.skip(f'{subject.backbone} declares that it takes no dynamic sizes')
    check(model, [(64, 64), (70, 97)], backend='eager', dynamic=True)


@pytest.mark.slow
@pytest.mark.parametrize('subject', INDUCTOR, ids=str)
def test_inductor(subject: Subject) -> None:
    check(subject.build(), [(64, 64)], backend='inductor', dynamic=False)
