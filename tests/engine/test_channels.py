"""Tools feed as many channels as the backbone takes."""

import cv2
import numpy as np
import pytest

from spm_mm.engine import image_channels
from spm_mm.registry import MODELS
from tests.tools.conftest import SMALL

CONFIG = 'configs/mmseg/fpn_pvt_tiny_spm_scenes.py'


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_get_flops_and_largest_batch(run_here, channels) -> None:
    option = f'model.backbone.in_channels={channels}'
    ended = run_here(
        'tools/analysis_tools/get_flops.py', 'configs/mmpretrain/pvt_tiny_spm_in1k.py',
        '--cfg-options', option,
    )  # fmt: skip
    assert ended.status == 0, ended.err
    # The stem: 4 x 4 pixels and the channels to 64, at 56 x 56 places.
    assert f'{56 * 56 * 64 * 16 * channels / 1e9:.3f}' in ended.out
    ended = run_here(
        'tools/analysis_tools/largest_batch.py', CONFIG, '--memory', 100, '--size', 64, 64,
        '--cfg-options', *SMALL, option,
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert 'largest batch in 100 GiB' in ended.out


def test_get_flops_of_weighting_without_attention(run_here) -> None:
    ended = run_here(
        'tools/analysis_tools/get_flops.py', 'configs/mmpretrain/pvt_tiny_spm-dynamic_in1k.py'
    )
    assert ended.status == 0, ended.err
    assert 'enhancement.weighting' in ended.out


def test_of_a_stock_model() -> None:
    backbone = MODELS.build(dict(type='mmpretrain.ResNet', depth=18, in_channels=5))
    assert image_channels(backbone) == 5


@pytest.mark.parametrize('channels', [1, 4])
def test_attention_map(run_here, tmp_path, channels) -> None:
    picture = tmp_path / 'a.png'
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    ended = run_here(
        'tools/visualization/attention_map.py', CONFIG, picture, tmp_path / 'out.png', '--size', 64, 64,
        '--cfg-options', f'model.backbone.in_channels={channels}',
        'model.data_preprocessor.mean=[120.0]', 'model.data_preprocessor.std=[60.0]',
    )  # fmt: skip
    if channels == 4:
        assert ended.status == 2
        assert 'got model.backbone.in_channels=4' in ended.err
    else:
        assert ended.status == 0, ended.err
        assert (tmp_path / 'out.png').is_file()
