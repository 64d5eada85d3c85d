import pytest
import torch
from mmengine.config import Config

from spm_mm.backbones import ShuntedTransformer
from spm_mm.engine import measure
from tests import testing
from tests.testing import build_tiny


def test_macs(root) -> None:
    counted = measure(Config.fromfile(root / 'configs/mmpretrain/shunted_tiny_in1k.py'))
    assert counted.total_macs == 2146691616


@pytest.mark.parametrize('side', [32, 33, 34, 35, 224, 225, 226, 227])
def test_stem_rounds_up_then_down(side: int) -> None:
    stem = build_tiny('ShuntedTransformer').stem
    assert stem(torch.randn(2, 3, side, 32)).shape[1] == -(-side // 2) // 2


def test_extra_convolutions_of_the_stem() -> None:
    arch = {**testing.tiny_config('ShuntedTransformer')['arch'], 'stem_convs': 2}
    model = ShuntedTransformer(arch)
    testing.check_shapes(model)
    testing.check_gradients(model)


def test_norm_of_the_stem() -> None:
    plain, synchronised, grouped = (
        build_tiny('ShuntedTransformer', norm_cfg=norm_cfg)
        for norm_cfg in (None, dict(type='SyncBN'), dict(type='GN', num_groups=4))
    )
    kinds = [type(model.stem.convs[1]).__name__ for model in (plain, synchronised, grouped)]
    assert kinds == ['BatchNorm2d', 'SyncBatchNorm', 'GroupNorm']
    assert list(plain.state_dict()) == list(synchronised.state_dict())
    testing.check_gradients(grouped)
