import torch

from spm_mm.merging import DeformableMerging


def make_merging() -> DeformableMerging:
    merging = DeformableMerging(16, 24)
    torch.nn.init.normal_(merging.offset.weight, std=0.2)
    return merging


def test_starts_as_a_plain_convolution() -> None:
    merging = DeformableMerging(16, 24).eval()
    x = torch.randn(2, 7, 6, 16)
    plain = merging.act(merging.norm(merging.conv(x.permute(0, 3, 1, 2))))
    torch.testing.assert_close(merging(x), plain.permute(0, 2, 3, 1))


def test_the_last_odd_row_can_be_read() -> None:
    merging = DeformableMerging(16, 24)
    torch.nn.init.constant_(merging.offset.bias, 0.5)
    x = torch.randn(2, 5, 4, 16, requires_grad=True)
    merging(x).square().sum().backward()
    assert x.grad[:, 4].abs().sum() > 0


def test_mixed_precision() -> None:
    merging = make_merging()
    x = torch.randn(2, 6, 6, 16, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        out = merging(x)
    out.float().square().sum().backward()
    torch.testing.assert_close(out.float(), merging(x), rtol=0.1, atol=0.1)
    assert all(p.grad.isfinite().all() for p in merging.parameters())
