"""NCCL on one card: DDP with synchronised batch norms, and pinned memory."""

from pathlib import Path

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from spm_mm.registry import MODELS
from tests import testing

pytestmark = pytest.mark.gpu


@pytest.fixture
def group(device: str, tmp_path: Path):
    torch.distributed.init_process_group(
        'nccl' if device == 'cuda' else 'gloo',
        init_method=f'file://{tmp_path}/store',
        rank=0,
        world_size=1,
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('memory_format', [None, torch.channels_last], ids=str)
def test_ddp_step(device: str, group, memory_format: torch.memory_format | None) -> None:
    """No parameter is left unused, in either memory format."""
    config = testing.tiny_config('PVT')
    # torch's SyncBatchNorm refuses CPU tensors.
    norm = 'SyncBN' if device == 'cuda' else 'BN'
    config['merging'] = dict(type='StepwiseMerging', norm_cfg=dict(type=norm))
    model = MODELS.build(config).to(device)
    if memory_format is not None:
        model = model.to(memory_format=memory_format)
    ids = [0] if device == 'cuda' else None
    wrapped = MMDistributedDataParallel(model, device_ids=ids, find_unused_parameters=False)
    images = DataLoader(
        TensorDataset(torch.randn(4, 3, 64, 64)), batch_size=2, pin_memory=device == 'cuda'
    )
    for (batch,) in images:
        outputs = super(MMDistributedDataParallel, wrapped).forward(
            batch.to(device, non_blocking=True)
        )
        sum(out.float().square().mean() for out in outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
