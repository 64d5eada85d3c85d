"""Fully sharded data parallel training (FSDP2), every block and merging sharded by itself."""

import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tests.pytorch_tools.conftest import SUBJECTS, Subject, assert_same, image, loss
from tests.pytorch_tools.processes import run_in_two_processes


def test_outputs_and_gradients() -> None:
    """In one pair of processes for all models: it takes longer to start than they do."""
    run_in_two_processes(check_all)


def check_all() -> None:
    mesh = init_device_mesh('cpu', (distributed.get_world_size(),))
    for subject in SUBJECTS:
        try:
            check(subject, mesh)
        except Exception as error:
            error.add_note(f'in {subject}')
            raise


def check(subject: Subject, mesh: DeviceMesh) -> None:
    batches = image(4).chunk(2)
    plain, model = subject.build().train(), subject.build().train()
    state = {name: value.clone() for name, value in plain.state_dict().items()}
    outs, grads = [], []
    for batch in batches:
        plain.load_state_dict(state)
        plain.zero_grad()
        outs.append(plain(batch))
        loss(outs[-1]).backward()
        grads.append([p.grad for p in plain.parameters()])
    for stage in model.stages:
        for block in stage.blocks:
            fully_shard(block, mesh=mesh)
    for merging in model.mergings:
        fully_shard(merging, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    rank = distributed.get_rank()
    sharded = model(batches[rank])
    assert_same(sharded, outs[rank])
    loss(sharded).backward()
    found = [parameter.grad.full_tensor() for parameter in model.parameters()]
    expected = [torch.stack(pair).mean(dim=0) for pair in zip(*grads, strict=True)]
    assert_same(found, expected, 'gradient')
