"""Memory layout of weights is the user's: plain when built, channels-last on request."""

import torch
from torch import nn

from tests.pytorch_tools.conftest import (
    Subject,
    assert_same,
    each_subject,
    each_variant,
    image,
    loss,
)


@each_variant
def test_weights_are_contiguous(subject: Subject) -> None:
    model = subject.build()
    tensors = [*model.named_parameters(), *model.named_buffers()]
    assert [name for name, tensor in tensors if not tensor.is_contiguous()] == []


@each_subject
def test_channels_last_changes_no_output_and_no_gradient(subject: Subject) -> None:
    model, other = subject.build(), subject.build().to(memory_format=torch.channels_last)
    x = image()
    results = []
    for net, batch in ((model, x), (other, x.to(memory_format=torch.channels_last))):
        outs = net(batch)
        loss(outs).backward()
        results.append((outs, [p.grad for p in net.parameters()]))
    (outs, grads), (other_outs, other_grads) = results
    assert_same(other_outs, outs)
    assert_same(other_grads, grads, 'gradient')
    assert all(out.is_contiguous() for out in other_outs), 'mmcv reads the plain layout alone'


@each_subject
def test_channels_last_reaches_the_weights(subject: Subject) -> None:
    model = subject.build().to(memory_format=torch.channels_last)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert convs
    for conv in convs:
        assert conv.weight.is_contiguous(memory_format=torch.channels_last)
