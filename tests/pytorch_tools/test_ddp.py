"""Data parallel training (DDP), in the plain memory format and in ``torch.channels_last``."""

import warnings

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from tests.pytorch_tools.conftest import SUBJECTS, Subject, assert_same, image, loss
from tests.pytorch_tools.processes import run_in_two_processes


def test_gradients() -> None:
    """In one pair of processes for all models: it takes longer to start than they do."""
    run_in_two_processes(check_all)


def check_all() -> None:
    torch.set_warn_always(True)
    for subject in SUBJECTS:
        for memory_format in (torch.contiguous_format, torch.channels_last):
            try:
                check(subject, memory_format)
            except Exception as error:
                error.add_note(f'in {subject}, {memory_format}')
                raise


def check(subject: Subject, memory_format: torch.memory_format) -> None:
    batches = image(4).to(memory_format=memory_format).chunk(2)
    plain, model = (subject.build().to(memory_format=memory_format) for _ in range(2))
    grads = []
    for batch in batches:
        plain.zero_grad()
        loss(plain(batch)).backward()
        grads.append([p.grad for p in plain.parameters()])
    parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        loss(parallel(batches[distributed.get_rank()])).backward()
    found = [parameter.grad for parameter in model.parameters()]
    expected = [torch.stack(pair).mean(dim=0) for pair in zip(*grads, strict=True)]
    assert_same(found, expected, 'gradient')
    # In the plain format a depth-wise convolution answers with the strides of channels-last memory,
    # which is the same memory where a side is 1, but not to DDP.
    if memory_format is torch.channels_last:
        assert [
            str(warning.message) for warning in caught if 'strides' in str(warning.message)
        ] == []
