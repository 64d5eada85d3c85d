import cv2
import numpy as np
import pytest
import torch

from spm_mm.visualization import aggregation_of_block, self_guided_blocks
from tests.testing import build_tiny

REGIONS = [[[1, 4], [1, 2]]] * 3


def test_aggregation_of_block() -> None:
    model = build_tiny('SGFormer', regions=REGIONS).eval()
    assert [self_guided_blocks(stage) for stage in model.stages] == [[1], [1], [1], []]
    found = aggregation_of_block(model, torch.randn(1, 3, 64, 64), stage=0, block=1)
    assert found.significance.shape == found.rates.shape == found.merged.shape == (16, 16)
    # 128 tokens in runs of 4, then 128 in runs of 2, in rising significance.
    assert np.bincount(found.merged.flat).tolist() == [4] * 32 + [2] * 64
    assert (found.rates == np.where(found.merged < 32, 4, 2)).all()
    order = found.merged.flat[found.significance.argsort(axis=None, kind='stable')]
    assert (np.diff(order) >= 0).all()


def test_what_has_no_self_guided_block() -> None:
    model = build_tiny('SGFormer').eval()
    for stage, block in ((0, 0), (0, 2), (3, 0), (4, 0)):
        with pytest.raises(ValueError, match=f'stage {stage + 1} of SGFormer has no self-guided'):
            aggregation_of_block(model, torch.randn(1, 3, 64, 64), stage, block)


def test_tool_draws(tmp_path, load_tool, monkeypatch) -> None:
    picture = tmp_path / 'picture.png'
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    out = tmp_path / 'out.png'
    argv = ['configs/mmseg/fpn_sgformer_small_camvid.py', picture, out, '--size', '64', '96']
    monkeypatch.setattr('sys.argv', ['tool', *map(str, argv), '--stage', '2', '--place', '0', '1'])
    tool = load_tool('tools/visualization/significance.py')
    tool.main()
    assert cv2.imread(str(out)).std() > 20
    monkeypatch.setattr('sys.argv', ['tool', *map(str, argv), '--stage', '4'])
    with pytest.raises(ValueError, match='stage 4 of SGFormer has no self-guided block'):
        tool.main()
