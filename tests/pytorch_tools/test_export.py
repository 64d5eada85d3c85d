"""``torch.export``: one graph of a fixed size, and of all sizes where a backbone declares it."""

import pytest
import torch
from torch import Tensor

from spm_mm.deploy import graph_module, trace
from tests.pytorch_tools.conftest import Subject, assert_same, each_subject, image


@each_subject
def test_fixed_size(subject: Subject) -> None:
    check(subject, [image()])


@pytest.mark.slow
@each_subject
def test_any_size_and_batch(subject: Subject) -> None:
    if not subject.build().has_dynamic_graph:
        pytest.skip(f'{subject} declares that it takes no dynamic sizes')
    # Sides below a window, odd ones, and maps that are one window or many.
    sizes = [(64, 96), (96, 64), (70, 97), (256, 224)]
    batches = [image(batch, size=size) for batch, size in zip((2, 1, 3, 1), sizes, strict=True)]
    check(subject, batches, dynamic=True)


def check(subject: Subject, batches: list[Tensor], dynamic: bool = False) -> None:
    """Export by the first batch, compare at all."""
    model = subject.build()
    exported = graph_module(trace(model, batches[0], dynamic))
    with torch.no_grad():
        for batch in batches:
            assert_same(exported(batch), model(batch), f'output at {tuple(batch.shape)}')
