"""Broken data in the frameworks' own datasets: their error stays, and the file is named."""

import shutil
from pathlib import Path

import pytest

from tests.tools.conftest import SMALL


@pytest.fixture
def own_scenes(scenes, tmp_path) -> Path:
    """A copy that a test may break."""
    out = tmp_path / 'scenes'
    shutil.copytree(scenes, out)
    return out


def test_undecodable_picture(own_scenes, run_tool, tmp_path) -> None:
    """Read in a worker, from which the error of the framework comes without the file."""
    for picture in (own_scenes / 'ade/images/training').glob('*.jpg'):
        picture.unlink()  # it may be a link to the same picture of another layout
        picture.write_bytes(b'no picture')
    done = run_tool(
        'tools/train.py', 'configs/mmseg/fpn_pvt_tiny_scenes.py', '--work-dir', tmp_path / 'work',
        '--cfg-options', *SMALL, 'model.decode_head.num_classes=12', 'train_cfg.max_iters=2',
        SCENES_ROOT=str(own_scenes), status=1,
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert 'cannot be prepared (img_path=' in text
    assert f'img_path={own_scenes}/ade/images/training/' in text
    assert 'seg_map_path=' in text
    assert not [*(tmp_path / 'work').glob('*.pth')]


def test_label_without_a_class(own_scenes, run_tool, tmp_path) -> None:
    done = run_tool(
        'tools/train.py', 'configs/mmseg/fpn_pvt_tiny_scenes.py', '--work-dir', tmp_path / 'work',
        '--cfg-options', *SMALL, 'model.decode_head.num_classes=3', 'train_cfg.max_iters=2',
        SCENES_ROOT=str(own_scenes), status=1, CUDA_VISIBLE_DEVICES='',
    )  # fmt: skip
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert 'in a batch of ' in line
    assert '.png (gt_sem_seg of shape 1 x 64 x ' in line
    assert 'IndexError: Target' in line
