import pytest
import torch

from spm_mm.merging import DeformableMerging
from spm_mm.ops.deform import BACKENDS


def make_merging(**options) -> DeformableMerging:
    merging = DeformableMerging(16, 24, **options)
    torch.nn.init.normal_(merging.offset.weight, std=0.2)
    return merging


def test_starts_as_a_plain_convolution() -> None:
    merging = DeformableMerging(16, 24).eval()
    x = torch.randn(2, 7, 6, 16)
    plain = merging.act(merging.norm(merging.conv(x.permute(0, 3, 1, 2))))
    torch.testing.assert_close(merging(x), plain.permute(0, 2, 3, 1))


@pytest.mark.parametrize('backend', BACKENDS)
def test_every_back_end_can_be_forced(backend: str) -> None:
    merging = make_merging().train()
    other = make_merging(backend=backend).train()
    other.load_state_dict(merging.state_dict())
    gradients = []
    for module in (merging, other):
        x = torch.randn(3, 9, 6, 16, generator=torch.Generator().manual_seed(1))
        x.requires_grad_()
        module(x).square().sum().backward()
        gradients.append([x.grad, *(p.grad for p in module.parameters())])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_the_last_odd_row_can_be_read() -> None:
    merging = DeformableMerging(16, 24)
    torch.nn.init.constant_(merging.offset.bias, 0.5)
    x = torch.randn(2, 5, 4, 16, requires_grad=True)
    merging(x).square().sum().backward()
    assert x.grad[:, 4].abs().sum() > 0


@pytest.mark.parametrize('backend', BACKENDS)
def test_mixed_precision(backend: str) -> None:
    merging = make_merging(backend=backend)
    x = torch.randn(2, 6, 6, 16, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        out = merging(x)
    out.float().square().sum().backward()
    torch.testing.assert_close(out.float(), merging(x), rtol=0.1, atol=0.1)
    assert all(p.grad.isfinite().all() for p in merging.parameters())


def test_unknown_back_end() -> None:
    with pytest.raises(ValueError, match=r"backend .* 'torchvison'.*did you mean 'torchvision'"):
        DeformableMerging(16, 24, backend='torchvison')
