"""Every family, and every merging on PVT, on a GPU."""

import copy
import os

import pytest
import torch
from torch import Tensor, nn

from spm_mm.ops import TokenMap
from spm_mm.registry import MODELS
from tests import testing

pytestmark = pytest.mark.gpu

HAFA = ['DeformableMerging', 'DeformableMerging', 'ClusterMerging']
CONFIGS = {
    **{name: testing.tiny_config(name) for name in testing.backbones()},
    **{f'PVT-{name}': testing.tiny_config('PVT', name) for name in testing.mergings()},
    'PVT-HAFA': testing.tiny_config('PVT') | dict(merging=[dict(type=name) for name in HAFA]),
}
SORTS = ('SGFormer', 'ClusterMerging', 'HAFA')
"""These order tokens by numbers that they compute, so the last bits may change an output."""
EXACT, NEAR = 1e-8, 0.05
"""Relative L2 distances: in float64 between two devices; of half precision from float32."""


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(name: str) -> nn.Module:
    return MODELS.build(copy.deepcopy(CONFIGS[name]))


def images(device: str, size: tuple[int, int] = (70, 97), **options) -> Tensor:
    # Drawn on the CPU: each device has its own random numbers.
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1)).to(
        device, **options
    )


def loss(outputs: tuple[Tensor | TokenMap, ...]) -> Tensor:
    """A number that depends on every output, made on the device without a copy from the CPU."""
    outputs = [out.x if isinstance(out, TokenMap) else out for out in outputs]
    return sum((out.float() ** 2).mean() for out in outputs)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one.double().cpu() - other.double().cpu()).norm() / other.double().norm())


def step(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs and gradients of a training step."""
    model.zero_grad(set_to_none=True)
    outputs = model(x)
    loss(outputs).backward()
    return [*(out.detach() for out in outputs), *(p.grad for p in model.parameters())]


def test_same_numbers_as_on_the_cpu(model: nn.Module, device: str) -> None:
    """Outputs and gradients of a training step, in float64."""
    model = model.double()
    found = step(copy.deepcopy(model).to(device), images(device, dtype=torch.float64))
    wanted = step(model, images('cpu', dtype=torch.float64))
    for one, other in zip(found, wanted, strict=True):
        assert one.device.type == device
        assert distance(one, other) <= EXACT or float(other.norm()) < 1e-6


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_trains(
    name: str, model: nn.Module, dtype: torch.dtype, device: str
) -> None:
    """Outputs are near those of float32; eight steps stay finite, with a scaled loss in float16."""
    if device == 'cpu' and dtype == torch.float16:
        pytest.skip('too slow')
    model = model.to(device).eval()
    x = images(device)
    with torch.no_grad():
        wanted = model(x)
        with torch.autocast(device, dtype):
            found = model(x)
    if not name.endswith(SORTS):
        for one, other in zip(found, wanted, strict=True):
            assert distance(one, other) <= NEAR
    model.train()
    scaler = torch.amp.GradScaler(device, init_scale=1024, enabled=dtype == torch.float16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for _ in range(8):
        with torch.autocast(device, dtype):
            value = loss(model(x))
        optimizer.zero_grad()
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        assert value.isfinite()
    if scaler.is_enabled():
        assert scaler.get_scale() >= 1024, 'a gradient was not finite'
    for key, parameter in model.named_parameters():
        assert parameter.isfinite().all(), key
        assert parameter.grad.isfinite().all(), f'gradient of {key}'


def test_the_cpu_never_waits(model: nn.Module, cuda: str) -> None:
    """A training step has no point at which the CPU waits for the GPU."""
    model = model.to(cuda).train()
    x = images(cuda)
    step(model, x)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        step(model, x)
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_two_steps_are_equal(model: nn.Module, device: str, monkeypatch) -> None:
    """With PyTorch's deterministic algorithms, to the last bit."""
    monkeypatch.setitem(os.environ, 'CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    model = model.to(device).train()
    x = images(device)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (step(copy.deepcopy(model), x) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_channels_last(name: str, model: nn.Module, device: str) -> None:
    """The memory format is the user's: it changes no output."""
    if name.endswith(SORTS):
        model = model.double()
    model = model.to(device).eval()
    x = images(device, dtype=next(model.parameters()).dtype)
    with torch.no_grad():
        wanted = model(x)
        found = model.to(memory_format=torch.channels_last)(
            x.contiguous(memory_format=torch.channels_last)
        )
    for one, other in zip(found, wanted, strict=True):
        assert distance(one, other) <= 1e-3


def test_compiled_by_inductor(cuda: str) -> None:
    """PVT with SPM: a compiled training step gives what the plain one does."""
    model = testing.build_tiny('PVT', 'StepwiseMerging').to(cuda).train()
    x = images(cuda)
    wanted = step(copy.deepcopy(model), x)
    found = step(torch.compile(model, dynamic=False), x)
    for one, other in zip(found, wanted, strict=True):
        assert distance(one, other) <= 1e-3 or float(other.norm()) < 1e-6
