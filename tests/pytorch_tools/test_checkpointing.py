"""``torch.utils.checkpoint`` in the blocks (``with_cp``): less is kept, nothing else changes."""

import pytest
import torch
from torch import Tensor

from tests.pytorch_tools.conftest import Subject, assert_same, each_subject, image, loss

MODES = ('mlp', True)


def train(subject: Subject, **options: object) -> tuple[list[Tensor], int]:
    """Outputs and gradients of a step, and the bytes that are kept between forward and backward."""
    model = subject.build(**options).train()
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outs = model(image())
    size = sum(kept.values())
    loss(outs).backward()
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    return [*outs, *grads], size


@pytest.mark.parametrize('with_cp', MODES)
@each_subject
def test_less_is_kept_for_the_same_gradients(subject: Subject, with_cp: bool | str) -> None:
    (plain, much), (saving, little) = train(subject), train(subject, with_cp=with_cp)
    assert_same(saving, plain)
    assert little < much


@pytest.mark.parametrize('with_cp', MODES)
def test_behind_a_frozen_stem(with_cp: bool | str) -> None:
    """The first block is recomputed, too, though its input needs no gradient."""
    subject = Subject('PVTv2', 'b0')
    first = dict(frozen_stages=0, out_indices=(0,))
    (plain, much), (saving, little) = (
        train(subject, **first),
        train(subject, **first, with_cp=with_cp),
    )
    assert_same(saving, plain)
    assert little < much
