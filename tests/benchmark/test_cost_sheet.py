"""The cost sheet against counts by hand."""

import json
from pathlib import Path

import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.benchmark.cost_sheet import CARDS, Cost, cost_of, read_card, tabulate_costs
from spm_mm.errors import UserError
from spm_mm.registry import MODELS
from tests import testing

B, C, H, W = 2, 3, 8, 6
N = 4 * B * C * H * W
"""Bytes of the images."""


class Function(nn.Module):
    """A model without parameters."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def cost(model: nn.Module, mode: str = 'inference', variant: str = 'float32') -> tuple[Cost, Cost]:
    return tuple(cost_of(lambda: model, (B, C, H, W), mode, variant).values())


def test_a_chain_becomes_one_kernel() -> None:
    """Three operators read and write the map; fused, one does. Views cost nothing."""
    eager, fused = cost(Function(lambda x: ((x * 2).relu().permute(0, 2, 3, 1) + 1).flatten(1)))
    assert (eager.kernels, eager.bytes) == (3 + 1, 3 * 2 * N + 2 * N)  # flatten copies
    assert (fused.kernels, fused.bytes) == (1, 2 * N)
    assert eager.macs == fused.macs == 0


def test_a_product_ends_a_chain() -> None:
    """ReLU, a linear layer, ReLU: three kernels in both forms."""
    eager, fused = cost(nn.Sequential(nn.ReLU(), nn.Linear(W, W), nn.ReLU()))
    assert eager.kernels == fused.kernels == 3
    assert eager.bytes == fused.bytes == 3 * 2 * N + 4 * (W * W + W)
    assert eager.macs == B * C * H * W * W


def test_a_later_operand_ends_a_chain() -> None:
    """x * 2 cannot wait for the product that reads it, so the sum is a kernel of its own."""
    linear = nn.Linear(W, W, bias=False)

    def forward(x: Tensor) -> Tensor:
        y = x * 2
        return y + F.linear(y, linear.weight)

    model = Function(forward)
    model.linear = linear
    _, fused = cost(model)
    assert fused.kernels == 3
    assert fused.bytes == 2 * N + (2 * N + 4 * W * W) + 3 * N


def test_what_is_expanded_is_read_once() -> None:
    """One number is written, then read for the whole map."""
    eager, _ = cost(Function(lambda x: x + x.new_ones(1).expand_as(x)))
    assert eager.bytes == 2 * N + 2 * 4


def test_convolution_and_its_gradients() -> None:
    """A depth-wise convolution in training: forward, and the gradients of weight and bias."""
    eager, _ = cost(nn.Conv2d(C, C, 3, padding=1, groups=C), 'training')
    forward = B * C * H * W * 9
    assert eager.macs == eager.vector_macs == 2 * forward  # the images have no gradient
    assert eager.operators['convolution'] == (1, 2 * N + 4 * (9 * C + C))
    kernels, moved = eager.operators['convolution_backward']
    assert (kernels, moved) == (2, (2 * N + 4 * 9 * C) + (N + 4 * C))


def test_attention_is_one_kernel() -> None:
    def forward(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)

    eager, _ = cost(Function(forward))
    assert eager.kernels == 1
    assert eager.macs == 2 * B * C * H * H * W
    assert eager.bytes == pytest.approx(2 * N, abs=4 * B * C * 32)  # and the sums of its rows


def test_autocast() -> None:
    """A linear layer in bfloat16 and a layer norm in float32, as on CUDA."""
    model = nn.Sequential(nn.Linear(W, W, bias=False), nn.LayerNorm(W))
    eager, _ = cost(model, variant='bfloat16')
    assert eager.macs == eager.half_macs == B * C * H * W * W
    kernels, moved = eager.operators['_to_copy']
    # Images and weight to bfloat16, then the norm's input to float32.
    assert (kernels, moved) == (3, (4 + 2) * (B * C * H * W + W * W) + (2 + 4) * B * C * H * W)


def test_floors() -> None:
    cost = Cost(1000, 10**10, 3 * 10**12, 10**12, 10**12, {})
    floors = cost.floors(CARDS['h100'])
    assert floors['bytes'] == pytest.approx(1e10 / 3.35e12)
    assert floors['operations'] == pytest.approx(2e12 / 989e12 + 2e12 / 67e12 + 2e12 / 67e12)
    assert floors['launches'] == pytest.approx(5e-3)


@pytest.mark.parametrize('backbone', testing.backbones())
def test_every_backbone(backbone: str) -> None:
    """A compiler launches less and moves less; multiply-accumulates are three times those of inference.

    Attention is more: its backward pass computes the weights anew.
    """
    config = testing.tiny_config(backbone)
    training, inference = (
        cost_of(lambda: MODELS.build(config), (2, 3, 64, 64), mode)
        for mode in ('training', 'inference')
    )
    for forms in (training, inference):
        assert 0 < forms['fused'].kernels < forms['eager'].kernels
        assert 0 < forms['fused'].bytes < forms['eager'].bytes
        assert forms['fused'].macs == forms['eager'].macs
    ratio = training['eager'].macs / inference['eager'].macs
    assert 2.5 < ratio < 3.6


def test_cards(tmp_path: Path) -> None:
    assert read_card('h200') is CARDS['h200']
    path = tmp_path / 'card.json'
    card = dict(
        name='own', bytes_per_second=1e12, matrix_flops=dict(float32=1e13, bfloat16=1e14),
        vector_flops=1e13,
    )  # fmt: skip
    path.write_text(json.dumps(card))
    assert read_card(str(path)).launch_us == 5
    costs = [('a', 'training', 'bfloat16', {'eager': Cost(1, 10**9, 1, 0, 0, {})})]
    assert tabulate_costs(costs, read_card(str(path))).row_count == 1
    for bad in (card | dict(bandwidth=1), card | dict(vector_flops=0), [], 'text'):
        path.write_text(json.dumps(bad))
        with pytest.raises(UserError, match='must hold a JSON object'):
            read_card(str(path))
    with pytest.raises(UserError, match="did you mean 'h100'"):
        read_card('h1000')


def test_a_model_that_needs_numbers() -> None:
    with pytest.raises(UserError, match='asks for numbers of a tensor'):
        cost(Function(lambda x: x * float(x.sum())))
