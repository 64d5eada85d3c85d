"""The stand-in for mmcv's compiled operators, on a GPU as on the CPU."""

import copy

import pytest
import torch
from torch import Tensor

import spm_mm  # noqa: F401, from here on mmcv's operators are found

pytestmark = pytest.mark.gpu

ops = pytest.importorskip('mmcv.ops')

BOXES = torch.tensor(
    [[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [21, 19, 30, 31], [5, 5, 25, 25]]
)
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.95, 0.3])
ROIS = torch.tensor([[0.0, 0, 0, 20, 16], [1, 3.5, 2, 30, 25], [1, -4, -4, 9, 9]])


def maps() -> Tensor:
    return torch.randn(2, 8, 16, 12)


def deform(layer: torch.nn.Module, masked: bool) -> tuple:
    offset = torch.randn(2, 18, 16, 12)
    return (layer, maps(), offset, *([torch.rand(2, 9, 16, 12)] if masked else []))


CASES = {
    'roi_align': lambda: (ops.RoIAlign(7, 0.25, 0), maps(), ROIS),
    'roi_pool': lambda: (ops.RoIPool(5, 0.25), maps(), ROIS),
    'deform_conv': lambda: deform(ops.DeformConv2d(8, 8, 3, padding=1), False),
    'modulated_deform_conv': lambda: deform(ops.ModulatedDeformConv2d(8, 8, 3, padding=1), True),
    'sigmoid_focal_loss': lambda: (
        ops.SigmoidFocalLoss(2.0, 0.25), torch.randn(20, 5), torch.randint(0, 6, (20,))
    ),
    'softmax_focal_loss': lambda: (
        ops.SoftmaxFocalLoss(2.0, 0.25), torch.randn(20, 5), torch.randint(0, 5, (20,))
    ),
    'carafe': lambda: (
        ops.CARAFE(3, 1, 2), maps(), torch.softmax(torch.randn(2, 9, 32, 24), dim=1)
    ),
    'multi_scale_deformable_attention': lambda: (
        lambda *args: ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply(*args, 64),
        torch.randn(2, 20, 4, 8), torch.tensor([[4, 4], [2, 2]]), torch.tensor([0, 16]),
        torch.rand(2, 6, 4, 2, 3, 2), torch.softmax(torch.randn(2, 6, 4, 2, 3), dim=-1),
    ),
}  # fmt: skip


def run(function, args: tuple, device: str) -> list[Tensor]:
    """The output, and the gradients of all that has some."""
    if isinstance(function, torch.nn.Module):
        function = copy.deepcopy(function).to(device)
    inputs = [x.to(device).requires_grad_(x.is_floating_point()) for x in args]
    out = function(*inputs)
    out.square().sum().backward()
    return [out.detach(), *(x.grad for x in inputs if x.grad is not None)]


@pytest.mark.parametrize('name', CASES)
def test_operator(name: str, device: str) -> None:
    function, *args = CASES[name]()
    for one, other in zip(run(function, args, device), run(function, args, 'cpu'), strict=True):
        assert one.device.type == device
        torch.testing.assert_close(one.cpu(), other, rtol=1e-3, atol=1e-4)


def test_nms(device: str) -> None:
    for found, wanted in zip(
        ops.nms(BOXES.to(device), SCORES.to(device), 0.5), ops.nms(BOXES, SCORES, 0.5), strict=True
    ):
        assert found.device.type == device
        torch.testing.assert_close(found.cpu(), wanted)
    labels = torch.tensor([0, 1, 0, 0, 1])
    cfg = dict(type='nms', iou_threshold=0.5)
    found = ops.batched_nms(BOXES.to(device), SCORES.to(device), labels.to(device), cfg)
    wanted = ops.batched_nms(BOXES, SCORES, labels, cfg)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.cpu(), other)
