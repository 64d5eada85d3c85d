"""The tools that draw, as users call them."""

import cv2
import pytest

CONFIG = 'configs/mmseg/fpn_pvt_tiny_spm_scenes.py'
SIZE = ('--size', '96', '128')


@pytest.mark.parametrize(
    ('tool', 'source', 'options'),
    [
        ('receptive_field', 'ade/images/validation', ['--number', 1]),
        ('attention_map', 'ade/images/validation', ['--stage', 3, '--query', 0.2, 0.8]),
        ('feature_maps', 'ade/images/validation', []),
        ('feature_maps', 'ade/images/validation', ['--modules', 'stages.0.position', 'mergings.1']),
    ],
)
def test_draws(scenes, tmp_path, load_tool, monkeypatch, capsys, tool, source, options) -> None:
    source = scenes / source
    if tool != 'receptive_field':
        source = next(source.glob('*.jpg'))
    argv = [CONFIG, source, tmp_path / 'out.png', *SIZE, *options]
    monkeypatch.setattr('sys.argv', ['tool', *map(str, argv)])
    module = load_tool(f'tools/visualization/{tool}.py')
    if 'stages.0.position' in options:
        with pytest.raises(ValueError, match='does not work on maps'):
            module.main()
        assert not (tmp_path / 'out.png').exists()
        return
    module.main()
    picture = cv2.imread(str(tmp_path / 'out.png'))
    assert picture is not None
    assert picture.std() > 20


def test_bad_input_is_one_sentence(tmp_path, run_tool) -> None:
    broken = tmp_path / 'broken.jpg'
    broken.write_text('no picture')
    done = run_tool(
        'tools/visualization/feature_maps.py', CONFIG, broken, tmp_path / 'out.png', status=2
    )
    assert f'{broken} is no picture' in done.stderr
    assert 'Traceback' not in done.stderr
