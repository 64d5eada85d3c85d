import re

import pytest

from spm_mm.errors import UserError
from tests.tools.conftest import SMALL

SEGMENTOR = 'configs/mmseg/fpn_pvt_tiny_spm_camvid.py'


@pytest.fixture
def tool(load_tool, root, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(root)
    return load_tool('tools/analysis_tools/largest_batch.py')


def test_segmentor(tool, capsys) -> None:
    """What is read off the line is what the batch takes: one image more does not fit."""
    options = ['--size', '64', '64', '--cfg-options', *SMALL]
    tool.main([SEGMENTOR, '--memory', '0.03', '--confirm', *options])
    said = capsys.readouterr().out
    peaks = {
        int(batch): float(gib) for batch, gib in re.findall(r'batch (\d+): ([\d.]+) GiB', said)
    }
    largest = int(re.search(r'confirmed: (\d+) images fit', said)[1])
    assert largest > 2
    assert peaks[largest] <= 0.03 < peaks[largest + 1]
    tool.main([SEGMENTOR, '--memory', '0.0001', *options])
    assert 'not one image fits' in capsys.readouterr().out


def test_detector_and_classifier(tool, capsys) -> None:
    for config, options in (
        ('configs/mmdet/mask-rcnn_pvt_tiny_spm_1x_coco.py', ['model.backbone.init_cfg=None']),
        ('configs/mmpretrain/pvt_tiny_in1k.py', ['model.backbone.drop_path_rate=0.0']),
    ):
        tool.main([config, '--memory', '100', '--size', '96', '64', '--cfg-options', *options])
        assert 'largest batch in 100 GiB, read off: ' in capsys.readouterr().out


def test_bad_input(tool) -> None:
    for options in (['--memory', '0'], ['--memory', '1', '--measure', '2', '1']):
        with pytest.raises(UserError, match='must be positive'):
            tool.main([SEGMENTOR, *options])
