"""Mixed precision on a machine without a GPU."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from spm_mm.engine.amp import CPUAmpOptimWrapper, use_mixed_precision
from spm_mm.errors import UserError

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')


def config(**options) -> Config:
    optimizer = dict(type='SGD', lr=0.1)
    return Config(dict(optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer, **options)))


@without_gpu
def test_bfloat16_on_the_cpu() -> None:
    """The layer computes in bfloat16; its weight, its gradient and the step are in float32."""
    cfg = config(loss_scale='dynamic', clip_grad=dict(max_norm=1.0))
    use_mixed_precision(cfg, 'bfloat16')
    model = nn.Linear(4, 3)
    before = model.weight.detach().clone()
    wrapper = OPTIM_WRAPPERS.build(
        {**cfg.optim_wrapper, 'optimizer': torch.optim.SGD(model.parameters(), lr=0.1)}
    )
    assert type(wrapper) is CPUAmpOptimWrapper
    with wrapper.optim_context(model):
        out = model(torch.randn(2, 4))
    assert out.dtype == torch.bfloat16
    assert model(torch.randn(2, 4)).dtype == torch.float32
    wrapper.update_params(out.float().square().sum())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)
    wrapper.load_state_dict(wrapper.state_dict())


@without_gpu
def test_accumulated_gradients() -> None:
    """Two halves of a batch step as the whole one does."""
    steps = []
    data = torch.randn(4, 4)
    for count in (1, 2):
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        wrapper = CPUAmpOptimWrapper(
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=count
        )
        wrapper.initialize_count_status(model, 0, count)
        for part in data.chunk(count):
            with wrapper.optim_context(model):
                loss = model(part).float().square().mean()
            wrapper.update_params(loss)
        steps.append(model.weight.detach())
    torch.testing.assert_close(*steps, rtol=0.02, atol=1e-3)


@without_gpu
@pytest.mark.parametrize('dtype', ['float16', None])
def test_float16_needs_a_gpu(dtype: str | None) -> None:
    with pytest.raises(UserError, match='needs a GPU and there is none: use --amp bfloat16'):
        use_mixed_precision(config(), dtype)


def test_with_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """There mmengine's own wrapper is taken, as by the frameworks' tools."""
    monkeypatch.setattr('spm_mm.engine.amp.get_device', lambda: 'cuda')
    for dtype in ('bfloat16', 'float16', None):
        cfg = config()
        use_mixed_precision(cfg, dtype)
        wrapper = cfg.optim_wrapper
        assert (wrapper.type, wrapper.loss_scale) == ('AmpOptimWrapper', 'dynamic')
        assert wrapper.get('dtype') == dtype


def test_bad_input() -> None:
    with pytest.raises(UserError, match='must be one of float16, bfloat16'):
        use_mixed_precision(config(), 'float8')
    with pytest.raises(UserError, match="must be 'bfloat16'"):
        CPUAmpOptimWrapper(dtype='float16', optimizer=None)
