"""No training step waits for a number of a tensor: on a GPU the CPU would have to wait for it."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from spm_mm.ops import TokenMap
from spm_mm.registry import MODELS
from tests import testing

WAITING = ('_local_scalar_dense', 'nonzero', 'masked_select', 'equal', 'is_nonzero', '_unique2')
"""Operators whose result, or its size, the CPU reads."""
HAFA = ['DeformableMerging', 'DeformableMerging', 'ClusterMerging']


class Watch(TorchDispatchMode):
    """Notes operators at which the CPU would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name in ('index', 'index_put', 'index_put_', '_index_put_impl_') and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if name in WAITING or masked:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def watch(model: nn.Module, *inputs) -> list[str]:
    """Waiting operators of a training step."""
    with Watch() as mode:
        outputs = model(*inputs)
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        sum((o.x if isinstance(o, TokenMap) else o).sum() for o in outputs).backward()
    return mode.found


@pytest.mark.parametrize('size', [(64, 64), (70, 97)], ids=str)
@pytest.mark.parametrize(
    ('backbone', 'merging'),
    [*((b, None) for b in testing.backbones()), *(('PVT', m) for m in [*testing.mergings(), HAFA])],
    ids=str,
)
def test_backbone(backbone: str, merging: str | list | None, size: tuple[int, int]) -> None:
    config = testing.tiny_config(backbone, drop_path_rate=0.1)
    if merging is not None:
        names = merging if isinstance(merging, list) else [merging] * 3
        config['merging'] = [dict(type=f'spm_mm.{name}') for name in names]
    model = MODELS.build(copy.deepcopy(config)).train()
    assert watch(model, torch.randn(2, 3, *size)) == []


def test_neck() -> None:
    """HAFA's neck, on the tokens of its backbone."""
    config = testing.tiny_config('PVTv2', out_type='tokens')
    config['merging'] = [dict(type=f'spm_mm.{name}') for name in HAFA]
    backbone = MODELS.build(config).train()
    neck = MODELS.build(
        dict(type='spm_mm.MTA', in_channels=list(config['arch']['embed_dims']), out_channels=16)
    )
    assert watch(nn.Sequential(backbone, neck.train()), torch.randn(2, 3, 64, 64)) == []


def test_head() -> None:
    """PaCa's segmentation head, without its loss."""
    pytest.importorskip('mmseg')
    config = testing.tiny_config('PaCaViT')
    head = MODELS.build(
        dict(
            type='spm_mm.PaCaHead', in_channels=list(config['arch']['embed_dims']),
            in_index=[0, 1, 2, 3], channels=16, num_classes=5,
        )
    ).train()  # fmt: skip
    model = nn.Sequential(MODELS.build(config).train(), head)
    assert watch(model, torch.randn(2, 3, 64, 64)) == []


def test_the_watch_sees() -> None:
    """Each kind of waiting is found."""

    class Waits(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            float(x.sum())
            x[x > 0]
            return x

    found = watch(Waits(), torch.randn(4, requires_grad=True))
    assert '_local_scalar_dense' in found
    assert 'index' in found or 'nonzero' in found
