"""The tools that draw the papers' figures, as users call them, on small models."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from spm_mm.errors import UserError
from tests.configs.shrink import shrink


@pytest.fixture(scope='module')
def configs(root, tmp_path_factory):
    """Small forms of configs, each written once."""
    folder = tmp_path_factory.mktemp('configs')

    def config(name: str) -> str:
        path = folder / f'{Path(name).name}.py'
        if not path.is_file():
            shrink(Config.fromfile(root / 'configs' / f'{name}.py')).dump(path)
        return str(path)

    return config


@pytest.fixture(scope='module')
def pictures(tmp_path_factory) -> Path:
    """A folder with a folder for each of two classes, as ImageNet's."""
    folder = tmp_path_factory.mktemp('pictures')
    for i in range(4):
        path = folder / f'class{i // 2}' / f'{i}.png'
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (90, 110, 3), np.uint8)
        cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 5))
    return folder


@pytest.fixture
def call(load_tool, tmp_path, capsys):
    """Call a tool whose last positional argument is OUT; returns the picture and what it says."""

    def call(tool: str, *arguments: object) -> tuple[np.ndarray, str]:
        out = tmp_path / 'out.png'
        arguments = [out if a == 'OUT' else a for a in arguments]
        load_tool(f'tools/visualization/{tool}.py').main([str(a) for a in arguments])
        return cv2.imread(str(out)), capsys.readouterr().out

    return call


SIZE = ('--size', 64, 96, '--device', 'cpu')


@pytest.mark.parametrize(
    ('figure', 'tool', 'config', 'beside', 'options', 'panels'),
    [
        ('SPM 4', 'attention_map', 'mmpretrain/pvt_tiny_spm_in1k', 'mmpretrain/pvt_tiny_in1k',
         ['--number', 2, '--query', 0.2, 0.8], (2, 5)),
        ('SPM 5(a)', 'feature_maps', 'mmpretrain/pvt_tiny_spm-gtg-k3_in1k',
         'mmpretrain/pvt_tiny_spm-gtg-k5_in1k', ['--merging', 1], (2, 4)),
        ('SPM 5(b)', 'receptive_field', 'mmpretrain/pvt_tiny_in1k',
         'mmpretrain/pvt_tiny_spm_in1k', ['--number', 2], (2, 3)),
        ('HAFA 4', 'token_clusters', 'mmseg/fpn_pvt_tiny_hafa_ade20k',
         'mmseg/fpn_pvt_tiny_ade20k', ['--number', 2], (2, 4)),
        ('SG-Former 2', 'significance', 'mmpretrain/sgformer_small_in1k',
         'mmpretrain/pvt_small_in1k', ['--number', 2], (2, 6)),
        ('LIT 2', 'sampling_positions', 'mmpretrain/pvt_small_dtm_in1k', None,
         ['--number', 2], (2, 2)),
        ('LIT 3', 'attention_heads', 'mmpretrain/pvt_small_msa_in1k', None,
         ['--number', 2], (4, 8)),
        ('detector', 'feature_maps', 'mmdet/mask-rcnn_pvt_tiny_spm_1x_coco', None, [], (3, 4)),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_figure(
    call, configs, pictures, monkeypatch, figure, tool, config, beside, options, panels
) -> None:
    drawn = []
    source = pictures if 'feature' not in tool else next(pictures.rglob('*.png'))
    arguments = [configs(config), source, 'OUT', *SIZE, *options]
    if beside is not None:
        arguments += ['--beside', configs(beside)]
    import spm_mm.visualization.figures as figures

    def save(path, panels, *args, **options) -> None:
        drawn.append(panels)
        figures.save_panels(path, panels, *args, **options)

    monkeypatch.setattr('spm_mm.visualization.save_panels', save)
    picture, _ = call(tool, *arguments)
    assert picture.std() > 10
    (rows,) = drawn
    assert (len(rows), max(map(len, rows))) == panels, figure
    if 'feature' in tool:  # no panel is of one colour
        assert all(
            np.ptp(panel.picture) > 0.05 * panel.picture.mean() for row in rows for panel in row
        )
    if tool in ('receptive_field', 'attention_map'):
        # One scale for what is compared.
        compared = rows if tool == 'attention_map' else [[p for row in rows for p in row]]
        for panels in compared:
            assert len({panel.limits for panel in panels if panel.limits}) == 1
        numbers = [p.caption for row in rows for p in row if p.limits]
        assert all('entropy' in n or 'holds half of the energy' in n for n in numbers)


def test_flops_of_mergings(call, root) -> None:
    """Figure 6(a) of SPM, at the full size of the models."""
    picture, said = call(
        'flops_by_module', root / 'configs/mmpretrain/pvt_tiny_spm_in1k.py', 'OUT',
        '--as-published', '--beside', root / 'configs/mmpretrain/pvt_tiny_in1k.py',
    )  # fmt: skip
    assert picture.std() > 10
    assert 'pvt_tiny_spm_in1k: all mergings: 0.903 G' in said
    assert 'pvt_tiny_spm_in1k: enhancement.qkv: 0.686 G' in said
    assert 'pvt_tiny_in1k: all mergings: 0.090 G' in said


def test_training_curves(call, tmp_path) -> None:
    for name, start in (('k1', 3.0), ('k31', 2.0)):
        for part, steps in (('a', range(1, 5)), ('b', range(3, 7))):
            log = tmp_path / name / part / 'vis_data' / 'scalars.json'
            log.parent.mkdir(parents=True)
            bonus = 1.0 if part == 'b' else 0.0
            lines = [dict(loss=start + bonus - s / 10, step=s) for s in steps]
            log.write_text('\n'.join(map(json.dumps, lines)))
    picture, said = call('training_curves', tmp_path / 'k1', tmp_path / 'k31', 'OUT', '--window', 2)
    assert picture.std() > 10
    assert f'{tmp_path / "k1"}: loss 3.4 at step 6' in said
    assert f'{tmp_path / "k31"}: loss 2.4 at step 6' in said
    with pytest.raises(UserError, match=r"no 'top1' in its logs; they hold \['loss', 'step'\]"):
        call('training_curves', tmp_path / 'k1', 'OUT', '--metric', 'top1')
    with pytest.raises(UserError, match='has no logs'):
        call('training_curves', tmp_path / 'k2', 'OUT')


def test_accuracy_against_throughput(call, configs, monkeypatch, load_tool, tmp_path) -> None:
    names = ['sgformer_small_in1k', 'pvt_small_in1k']
    paths = []
    for name in names:
        path = tmp_path / 'mmpretrain' / f'{name}.py'
        path.parent.mkdir(exist_ok=True)
        path.write_text(Path(configs(f'mmpretrain/{name}')).read_text())
        paths.append(path)
    options = ['--batch-size', 1, '--seconds', 0.01, '--device', 'cpu', '--paper', 'sgformer']
    picture, said = call('accuracy_throughput', *paths, 'OUT', *options)
    assert picture.std() > 10
    assert '83.2 %' in said
    assert '79.8 %' in said
    table = (tmp_path / 'out.csv').read_text().splitlines()
    assert table[1].startswith('mmpretrain/sgformer_small_in1k,')
    assert float(table[1].split(',')[1]) > 0
    with pytest.raises(UserError, match='has no printed top-1'):
        call('accuracy_throughput', tmp_path / 'mmpretrain' / 'x.py', 'OUT')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--number', 0], '--number must be at least 1'),
        (['--size', 0, 64], '--size must be positive'),
        (['--query', 2, 0], '--query must be from 0 to 1'),
        (['--device', 'tpu9'], '--device tpu9 is not available'),
        (['--stage', 5], '--stage must be from 1 to 4'),
        (['--block', 9], '--block must be from -1 to 0'),
        (['--beside', 'a.py', 'b.pth', 'c.pth'], '--beside takes CONFIG and CHECKPOINT'),
    ],
)
def test_bad_arguments(call, configs, pictures, options, message) -> None:
    config = configs('mmpretrain/pvt_tiny_in1k')
    with pytest.raises(UserError, match=message):
        call('attention_map', config, pictures, 'OUT', *SIZE, *options)


def test_a_module_without_a_map_writes_nothing(call, configs, pictures, tmp_path) -> None:
    source = next(pictures.rglob('*.png'))
    with pytest.raises(UserError, match='does not work on maps'):
        call(
            'feature_maps', configs('mmpretrain/pvt_tiny_in1k'), source, 'OUT', *SIZE,
            '--modules', 'stages.0.position', 'mergings.1',
        )  # fmt: skip
    assert not (tmp_path / 'out.png').exists()


def test_bad_input_is_one_sentence(tmp_path, run_tool, configs) -> None:
    broken = tmp_path / 'broken.jpg'
    broken.write_text('no picture')
    config = configs('mmpretrain/pvt_tiny_in1k')
    out = tmp_path / 'out.png'
    done = run_tool('tools/visualization/feature_maps.py', config, broken, out, status=2)
    assert f'{broken} is no picture' in done.stderr
    assert 'Traceback' not in done.stderr


def test_similarity_of_clusters_and_squares(load_tool, configs, pictures, tmp_path, capsys) -> None:
    tool = load_tool('tools/analysis_tools/cluster_similarity.py')
    squares = np.kron(np.arange(12).reshape(3, 4), np.ones((2, 2), int))
    assert tool.rand_indices(squares, squares[::-1, ::-1] + 1) == (1.0, 1.0)
    # By hand: 6 pairs of 4 cells; {0, 1}, {2, 3} against {0}, {1}, {2, 3} agree on all but one.
    plain, adjusted = tool.rand_indices(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]))
    assert plain == pytest.approx(5 / 6)
    assert adjusted == pytest.approx((1 - 2 / 6) / (1.5 - 2 / 6))
    out = tmp_path / 'out.csv'
    config = configs('mmpretrain/pvtv2_b1_hafa-sia-sia-sia_in1k')
    tool.main([*map(str, (config, pictures, out, *SIZE, '--number', 1))])
    assert [line.split(',')[:2] for line in out.read_text().splitlines()[1:]] == [
        ['2', '1'], ['3', '1'], ['4', '1'],
    ]  # fmt: skip
    assert 'before stage 2: Rand index' in capsys.readouterr().out


def test_segmentations_of_several_models(call, configs, scenes, monkeypatch) -> None:
    """Two models, a picture, and what the tool refuses."""
    monkeypatch.setenv('SCENES_ROOT', str(scenes))
    plain, spm = (f'mmseg/fpn_pvt_tiny{name}_scenes' for name in ('', '_spm'))
    call_it = [
        'segmentation', configs(plain), 'OUT', '--beside', configs(spm), '--device', 'cpu',
        '--number', 2,
    ]  # fmt: skip
    picture, said = call(*call_it, '--picture', 1, '--names', 'convolution', 'SPM')
    assert picture.std() > 10
    for name in ('convolution', 'SPM'):
        assert re.search(rf'{name}: mIoU \d+\.\d\d, half of the energy in \d+\.\d\d%', said)
    with pytest.raises(UserError, match=r"--names takes 2, one for each model, got \['one'\]"):
        call(*call_it, '--names', 'one')
    with pytest.raises(UserError, match='--picture must be from 0 to 3, got 4'):
        call(*call_it, '--picture', 4)
    with pytest.raises(UserError, match='is no segmentor'):
        call('segmentation', configs('mmpretrain/pvt_tiny_in1k'), 'OUT', '--device', 'cpu')
