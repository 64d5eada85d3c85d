"""``torch.fx.symbolic_trace`` of an MLP, as quantization and pruning tools do with parts of a model."""

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace

from spm_mm.layers import MLP, DepthwiseMLP
from tests.pytorch_tools.conftest import assert_same, shaken


@pytest.mark.parametrize(
    'mlp', [MLP(8, 4), DepthwiseMLP(8, 4, shortcut=True), DepthwiseMLP(8, 4, shortcut=False)]
)
def test_an_mlp_is_traced_layer_by_layer(mlp: nn.Module) -> None:
    shaken(mlp)
    traced, x = symbolic_trace(mlp), torch.randn(2, 5, 6, 8)
    assert_same([traced(x)], [mlp(x)])
    called = {node.target for node in traced.graph.nodes if node.op == 'call_module'}
    assert {'fc1', 'fc2'} <= called
