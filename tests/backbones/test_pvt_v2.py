import pytest
import torch

from spm_mm.backbones import PVTv2
from tests import testing
from tests.testing import build_tiny, tiny_config


def linear() -> PVTv2:
    config = tiny_config('PVTv2')
    return PVTv2({**config['arch'], 'linear': True})


def test_pooled_attention_at_any_size() -> None:
    testing.check_shapes(linear())
    testing.check_gradients(linear())


@pytest.mark.slow
def test_pooled_attention_compiles() -> None:
    testing.check_compile(linear())


def test_mixed_precision_of_pooled_attention() -> None:
    testing.check_gradients(linear(), mixed=True)


def test_the_convolution_of_the_mlp_has_no_shortcut_and_a_relu_only_if_linear() -> None:
    x = torch.randn(1, 4, 4, 8)
    for model, relu in ((build_tiny('PVTv2'), False), (linear(), True)):
        mlp = model.stages[0].blocks[0].mlp
        hidden = mlp.fc1(x).relu() if relu else mlp.fc1(x)
        hidden = mlp.dwconv(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        torch.testing.assert_close(mlp(x), mlp.fc2(mlp.act(hidden)))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch=dict(depths=(1, 1, 1, 1))), 'a dict with the keys'),
        (
            dict(merging=dict(type='ConvMerging', kernel_size=4)),
            'unless it is 2, must be odd',
        ),
    ],
)
def test_errors(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PVTv2(**arguments)
