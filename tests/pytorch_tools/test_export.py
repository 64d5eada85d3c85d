"""``torch.export``: one graph of a fixed size, and of all sizes where a backbone declares it."""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from tests.pytorch_tools.conftest import Subject, assert_same, declared, each_subject, image


@each_subject
def test_fixed_size(subject: Subject) -> None:
    check(subject.build(), [image()])


@pytest.mark.slow
@each_subject
def test_any_size_and_batch(subject: Subject) -> None:
    model = subject.build()
    if not model.has_dynamic_graph:
        pytest.skip(f'{subject.backbone} declares that it takes no dynamic sizes')
    if declared(model, 'exports_fixed_size'):
        pytest.skip('a part of it declares that its size is fixed when it is exported')
    batches = [image(), image(1, size=(96, 64)), image(3, size=(70, 97))]
    check(model, batches, dynamic_shapes=((Dim.AUTO, Dim.STATIC, Dim.AUTO, Dim.AUTO),))


def check(model: nn.Module, batches: list[Tensor], **options: object) -> None:
    """Export by the first batch, compare at all."""
    with torch.no_grad():
        exported = torch.export.export(model, (batches[0],), **options).module()
        for batch in batches:
            assert_same(exported(batch), model(batch), f'output at {tuple(batch.shape)}')
