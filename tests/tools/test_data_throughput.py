import re

import pytest

from spm_mm.errors import UserError

TOOL = 'tools/analysis_tools/data_throughput.py'


@pytest.fixture
def tool(load_tool, root, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(root)
    return load_tool(TOOL)


def test_pipelines_of_three_hosts(tool, scenes, monkeypatch, capsys) -> None:
    monkeypatch.setenv('SCENES_ROOT', str(scenes))
    files = [
        f'configs/{name}.py'
        for name in (
            'mmdet/_base_/datasets/coco_instance',
            'mmseg/_base_/datasets/ade20k',
            'mmpretrain/_base_/datasets/imagenet_224',
            'mmseg/fpn_pvt_tiny_scenes',
        )
    ]
    tool.main([*files, '--rate', '1000', '--count', '2', '--repeat', '1', '--side', '96'])
    rows = re.findall(r'\| (\S+) +\| ([\d.]+) \[', capsys.readouterr().out)
    assert [name for name, _ in rows] == [
        'mmdet/coco_instance', 'mmseg/ade20k', 'mmpretrain/imagenet_224', 'mmseg/fpn_pvt_tiny_scenes',
    ]  # fmt: skip
    assert all(float(rate) > 0 for _, rate in rows)


def test_all_pipelines(tool, scenes, monkeypatch, capsys) -> None:
    """Without a config all shipped data sets are there, but for what has no pipeline of its own."""
    monkeypatch.setenv('SCENES_ROOT', str(scenes))
    tool.main(['--count', '1', '--repeat', '1', '--side', '64'])
    rows = re.findall(r'^\| (mm\S+/\S+)', capsys.readouterr().out, re.MULTILINE)
    files = sorted(tool.ROOT.glob('*/_base_/datasets/*.py'))
    names = [f'{path.parents[2].name}/{path.stem}' for path in files]
    assert rows == [name for name in names if '/small_' not in name]
    assert len(rows) > 10


def test_bad_input(tool, monkeypatch, tmp_path) -> None:
    with pytest.raises(UserError, match='--rate must be positive'):
        tool.main(['--rate', '-1'])
    with pytest.raises(UserError, match='no config in a folder of a framework'):
        tool.main(['nothing.py'])
    with pytest.raises(UserError, match='small_coco has no training pipeline'):
        tool.main(['configs/mmdet/_base_/datasets/small_coco.py'])
    monkeypatch.setenv('SCENES_ROOT', str(tmp_path / 'none'))
    with pytest.raises(UserError, match=r'run tools/dataset_converters/compose_scenes\.py'):
        tool.main(['configs/mmseg/_base_/datasets/scenes.py'])
