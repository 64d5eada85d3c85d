"""How the cost of backbones grows with the image: PaCa's attention to clusters beside PVT's."""

import json

from spm_mm.benchmark.report import slope


def test_paca_is_linear_and_spatial_reduction_is_not(load_tool, tmp_path, capsys) -> None:
    """Multiply-accumulates of the two backbones from 224 to 1024 pixels."""
    out = tmp_path / 'scaling.json'
    sides = ('224', '384', '512', '768', '1024')
    load_tool('tools/analysis_tools/benchmark.py').main([
        'configs/mmpretrain/pacavit_tiny_in1k.py', 'configs/mmpretrain/pvt_tiny_in1k.py',
        '--sizes', *sides, '--modes', 'inference', '--repeat', '0', '--json', str(out),
    ])  # fmt: skip
    assert 'slopes over the number of pixels' in capsys.readouterr().out
    grows = {}
    for name in ('pacavit_tiny_in1k', 'pvt_tiny_in1k'):
        rows = [row for row in json.loads(out.read_text())['rows'] if row['subject'] == name]
        assert [row['size'] for row in rows] == [[int(side)] * 2 for side in sides]
        grows[name] = slope([row['size'] for row in rows], [row['macs'] for row in rows])
    assert grows['pacavit_tiny_in1k'] <= 1.1 < grows['pvt_tiny_in1k']
