import json
from pathlib import Path

import pytest

from spm_mm.benchmark import PRESETS, subject_of
from spm_mm.errors import UserError

CONFIG = 'configs/mmseg/fpn_pvt_tiny_dtm_camvid.py'


@pytest.fixture
def tool(load_tool, root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(root)
    return load_tool('tools/analysis_tools/benchmark.py')


def run(tool, tmp_path: Path, *options: str) -> dict:
    tool.main([*options, '--json', str(tmp_path / 'out.json')])
    return json.loads((tmp_path / 'out.json').read_text())


def test_merging_beside_another(tool, tmp_path: Path, capsys) -> None:
    found = run(
        tool, tmp_path, CONFIG, f'{CONFIG}:ConvMerging', '--sizes', '32', '64x32', '--repeat', '1',
        '--batch', '2', '--plot', str(tmp_path / 'out.png'), '--kernels', '2',
    )  # fmt: skip
    rows = found['rows']
    assert len(rows) == 2 * 2 * 2  # subjects, sizes, modes
    own, conv = (row for row in rows[:2])
    assert [own['subject'], conv['subject']] == [
        'fpn_pvt_tiny_dtm_camvid',
        'fpn_pvt_tiny_dtm_camvid:ConvMerging',
    ]
    assert own['ratios'] == [1.0]
    assert conv['ratios'] == [conv['seconds'][0] / own['seconds'][0]]
    assert own['macs'] > conv['macs']
    assert all(row['peak_bytes'] > 0 and len(row['kernels']) == 2 for row in rows)
    assert (tmp_path / 'out.png').stat().st_size > 1000
    assert 'fpn_pvt_tiny_dtm_camvid:ConvMerging' in capsys.readouterr().out


def test_against_the_frameworks(tool, tmp_path: Path) -> None:
    found = run(
        tool, tmp_path, 'PVT/tiny', 'PVTv2/b1', 'SwinTransformer', '--against', 'framework',
        '--sizes', '64', '--repeat', '1', '--modes', 'inference',
    )  # fmt: skip
    names = ['PVT/tiny, MMDetection', 'PVTv2/b1, MMDetection', 'SwinTransformer, MMPretrain']
    assert list(found['distances']) == names
    assert all(distance < 1e-5 for distance in found['distances'].values())
    for ours, theirs in zip(found['rows'][::2], found['rows'][1::2], strict=True):
        assert ours['macs'] == theirs['macs']


def test_gle_beside_its_reference_form(tool, tmp_path: Path) -> None:
    options = ['--variants', 'float32', 'bfloat16']
    found = run(tool, tmp_path, '--gle', '--sizes', '32', '--repeat', '1', *options)
    assert len(found['rows']) == 3 * 2 * 2 * 2  # widths, forms, modes, variants
    assert all(distance < 1e-5 for distance in found['distances'].values())
    for ours, reference in zip(found['rows'][::2], found['rows'][1::2], strict=True):
        assert ours['macs'] < reference['macs']


def test_clustering_alone(tool, tmp_path: Path) -> None:
    options = ['--modes', 'inference', '--sizes', '128', '256', '--repeat', '1']
    rows = run(tool, tmp_path, '--clustering', *options)['rows']
    # Float32 distances, twice for a moment, and booleans: 9 bytes for each pair of 64 and 256 tokens.
    for row, tokens in zip(rows, (64, 256), strict=True):
        assert row['peak_bytes'] >= 9 * tokens**2
    with pytest.raises(UserError, match='--modes must be inference'):
        tool.main(['--clustering'])


def test_neighborhood_attention_beside_other_routes(tool, tmp_path: Path) -> None:
    found = run(tool, tmp_path, '--neighborhood', '--sizes', '68x48', '--repeat', '1')
    assert len(found['rows']) == 4 * 3 * 2  # stages, routes, modes
    assert len(found['distances']) == 4 * 2
    assert all(distance < 1e-5 for distance in found['distances'].values())
    rows = {row['subject']: row['macs'] for row in found['rows']}
    # The tiles also compute pairs that they mask.
    assert rows['NA stage 1, gathered'] == 2 * 17 * 12 * 49 * 64 < rows['NA stage 1']
    assert rows['NA stage 1'] < 2 * (17 * 12) ** 2 * 64 < rows['NA stage 1, whole map']
    # At 320 the mask of stage 1 would have 6400 x 6400 numbers a head: that route is left out.
    found = run(tool, tmp_path, '--neighborhood', '--sizes', '68x48', '320', '--repeat', '0')
    names = {row['subject'] for row in found['rows']}
    assert set(rows) - names == {'NA stage 1, whole map'}


def test_what_is_recomputed_takes_no_memory(tool, tmp_path: Path) -> None:
    found = run(
        tool, tmp_path, 'PVT/small', '--against', 'with_cp', '--sizes', '96', '--repeat', '1',
        '--modes', 'training', '--batch', '4',
    )  # fmt: skip
    assert found['distances'] == {"PVT/small, with_cp 'mlp'": 0.0, 'PVT/small, with_cp True': 0.0}
    _, mlp, blocks = (row['memory_ratio'] for row in found['rows'])
    assert blocks < mlp < 1


def test_cost_alone(tool, tmp_path: Path) -> None:
    """MACs of PaCa grow linearly with the pixels, those of spatial reduction do not."""
    found = run(
        tool, tmp_path, 'PaCaViT/tiny', 'PVT/tiny', '--sizes', '224', '512', '1024', '--repeat', '0',
        '--modes', 'inference',
    )  # fmt: skip
    macs = [row['macs'] for row in found['rows']]
    paca, pvt = macs[::2], macs[1::2]
    assert paca[2] / paca[0] < (1024 / 224) ** 2.2 < pvt[2] / pvt[0]


@pytest.mark.parametrize('name', PRESETS)
def test_presets_can_be_built(name: str) -> None:
    for spec in PRESETS[name].subjects:
        subject_of(spec)


def test_bad_input(tool) -> None:
    for options, message in (
        (('nothing.py',), 'config nothing.py does not exist'),
        (('PVTT',), "did you mean 'PVT'"),
        (('PVT/teeny',), "did you mean 'tiny'"),
        ((CONFIG, '--repeat', '-1'), 'must be at least 1, --repeat and --kernels 0'),
        ((), 'nothing to measure'),
        ((CONFIG, CONFIG), 'is there twice'),
        (('PaCaViT', '--against', 'framework'), 'no framework has PaCaViT'),
        (
            ('PVT:StepwiseMerging', '--against', 'framework'),
            'with its own merging and attention alone',
        ),
        ((CONFIG, '--plot', 'a.pdf'), 'must end in .png'),
    ):
        with pytest.raises(UserError, match=message):
            tool.main([*options])


def test_cost_sheet(tool, tmp_path: Path, capsys) -> None:
    """Ours beside the framework's class, which launches and moves more; a whole segmentor."""
    found = run(
        tool, tmp_path, 'PVT/tiny', CONFIG, '--cost-sheet', 'h100', '--sizes', '64', '--batch', '2',
        '--variants', 'bfloat16', '--kernels', '3',
    )  # fmt: skip
    assert found['card']['name'] == 'H100 80GB'
    assert len(found['rows']) == 2 * 2 * 2  # subjects, modes, forms
    assert 'convolution_backward' in capsys.readouterr().out
    whole = run(
        tool, tmp_path, 'PVT/tiny', '--against', 'framework', '--cost-sheet', 'h100', '--sizes', '64',
        '--batch', '2', '--modes', 'training',
    )['rows']  # fmt: skip
    ours, theirs = whole[0], whole[2]
    assert ours['kernels'] < theirs['kernels']
    assert ours['bytes'] <= theirs['bytes']
    with pytest.raises(UserError, match='leave out the variant compiled'):
        tool.main(['PVT/tiny', '--cost-sheet', 'h100', '--variants', 'compiled'])
