from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_metafiles_are_up_to_date(load_tool) -> None:
    tool = load_tool('tools/analysis_tools/make_metafiles.py')
    for name, content in tool.contents().items():
        assert (ROOT / name).read_text() == content, 'run tools/analysis_tools/make_metafiles.py'


def test_every_config_with_a_row_is_listed() -> None:
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    models = [
        model
        for part in index['Import']
        for model in yaml.safe_load((ROOT / part).read_text())['Models']
    ]
    listed = {model['Config'] for model in models}
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / 'configs').glob('mm*/*.py')
        if 'no row in any' not in path.read_text()
    }
    assert listed == wanted
    spm = next(model for model in models if model['Name'] == 'mask-rcnn_pvt_tiny_spm_1x_coco')
    assert [result['Metrics'] for result in spm['Results']] == [{'box AP': 40.8}, {'mask AP': 38.0}]


def test_check_finds_a_change(load_tool, tmp_path, monkeypatch) -> None:
    tool = load_tool('tools/analysis_tools/make_metafiles.py')
    monkeypatch.setattr(tool, 'ROOT', tmp_path)
    (tmp_path / 'configs/mmpretrain').mkdir(parents=True)
    (tmp_path / 'configs/papers.yaml').write_text((ROOT / 'configs/papers.yaml').read_text())
    (tmp_path / 'configs/mmpretrain/pvt_tiny_in1k.py').touch()
    monkeypatch.setattr('sys.argv', ['tool'])
    tool.main()
    monkeypatch.setattr('sys.argv', ['tool', '--check'])
    tool.main()
    (tmp_path / 'configs/mmpretrain/pvt_small_in1k.py').touch()
    with pytest.raises(SystemExit, match=r'outdated: configs/mmpretrain/metafile.yml'):
        tool.main()
