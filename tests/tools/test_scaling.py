import re

import pytest

from spm_mm.errors import UserError


@pytest.fixture
def tool(load_tool):
    return load_tool('tools/analysis_tools/scaling.py')


def test_slope(tool) -> None:
    sizes = [64, 100, 300]
    assert tool.slope(sizes, [3.0 * side**2 for side in sizes]) == pytest.approx(1)
    assert tool.slope(sizes, [0.5 * side**4 for side in sizes]) == pytest.approx(2)


def test_paca_is_linear_and_spatial_reduction_is_not(tool, root, capsys) -> None:
    """Multiply-accumulates of the two backbones from 224 to 1024 pixels."""
    folder = root / 'configs/mmpretrain'
    paths = [str(folder / f'{name}_tiny_in1k.py') for name in ('pacavit', 'pvt')]
    tool.main([*paths, '--sizes', '224', '512', '1024', '--repeats', '0'])
    slopes = [float(s) for s in re.findall(r'slope \| ([\d.]+)', capsys.readouterr().out)]
    assert len(slopes) == 2
    assert slopes[0] <= 1.1 < slopes[1]


def test_time(tool, root, capsys) -> None:
    path = str(root / 'configs/mmpretrain/pacavit_tiny_in1k.py')
    tool.main([path, '--sizes', '32', '64', '--repeats', '1', '--device', 'cpu'])
    rows = re.findall(r'\| (32|64) \| ([\d.]+) \| ([\d.]+) \| - \|', capsys.readouterr().out)
    assert [side for side, *_ in rows] == ['32', '64']
    assert all(float(value) > 0 for _, *values in rows for value in values)


def test_clustering(tool, capsys) -> None:
    tool.main(['--tokens', '64', '128', '--repeats', '1', '--device', 'cpu'])
    out = capsys.readouterr().out
    rows = re.findall(r'\| (\d+) \| ([\d.]+) \| - \| ([\d.]+) \|', out)
    assert [(tokens, memory) for tokens, _, memory in rows] == [('64', '0.035'), ('128', '0.141')]
    assert out.splitlines()[-1].endswith('| - | 2.000 |')


def test_bad_arguments(tool) -> None:
    for options, message in (
        (('--sizes', '224'), '--sizes must be at least two sides'),
        (('--sizes', '16', '64'), '--sizes must be at least two sides of 32'),
        (('--repeats', '-1'), '--repeats must be 0 or more'),
        (('--tokens', '64', '128'), 'either configs, .* or --tokens'),
    ):
        with pytest.raises(UserError, match=message):
            tool.main(['config.py', *options])
    for options, message in (((), 'either configs'), (('--tokens', '64'), 'at least two positive')):
        with pytest.raises(UserError, match=message):
            tool.main([*options])
