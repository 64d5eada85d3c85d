"""Ours beside the papers' figures: every difference is within the rounding or explained."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from spm_mm.engine import Exceptional, load_papers, measure
from spm_mm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / 'configs' / 'papers.yaml'
PAPERS, ROWS, EXCEPTIONS = load_papers(TABLE)
PRINTED = [
    (row, figure)
    for row in ROWS
    for figure in row.figures
    if (ROOT / 'configs' / f'{row.config}.py').is_file()
]


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('tools/analysis_tools/compare_papers.py')


def case(row, figure):
    return pytest.param(row, figure, id=f'{row.key}-{row.config.split("/")[1]}-{figure}')


@pytest.mark.parametrize(('row', 'figure'), [case(*printed) for printed in PRINTED])
def test_figure(tool, row, figure) -> None:
    result = tool.compare(row, figure, EXCEPTIONS.get((row.key, row.config, figure)))
    assert not result.differs, result


def test_every_config_has_a_row_or_says_why_not() -> None:
    listed = {row.config for row in ROWS}
    for path in (ROOT / 'configs').glob('mm*/*.py'):
        name = f'{path.parent.name}/{path.stem}'
        assert name in listed or 'no row in any' in path.read_text(), name


def row_of(config: str, table: str):
    return next(row for row in ROWS if row.config == config and row.key == table)


def test_a_wrong_figure_differs(tool) -> None:
    row = row_of('mmpretrain/pvt_tiny_in1k', 'spm.1')
    wrong = replace(row, figures={'params_M': 13.3})
    assert tool.compare(wrong, 'params_M').differs
    assert not tool.compare(row, 'params_M').differs


def test_an_exception_must_be_needed_and_right(tool) -> None:
    row = row_of('mmpretrain/pvt_tiny_in1k', 'spm.1')
    assert tool.compare(row, 'params_M', Exceptional('params_M', 'not needed', 'thop')).differs
    wrong = replace(row, figures={'params_M': 12.9})
    assert tool.compare(wrong, 'params_M', Exceptional('params_M', 'wrong', 'thop')).differs
    thop = replace(row, figures={'params_M': 12.8})
    assert (
        tool.compare(thop, 'params_M', Exceptional('params_M', '', 'thop')).verdict == 'exception'
    )
    no_head = replace(row, figures={'params_M': 12.7})
    exception = Exceptional('params_M', '', without=('head',))  # 13.229 M - 0.513 M = 12.716 M
    assert tool.compare(no_head, 'params_M', exception).verdict == 'exception'
    more = Exceptional('params_M', '', plus=270_712)  # 13.229 M + 0.271 M = 13.5 M
    assert tool.compare(replace(row, figures={'params_M': 13.5}), 'params_M', more).verdict == (
        'exception'
    )
    open_figure = Exceptional('params_M', '', unexplained=13.2)
    assert tool.compare(wrong, 'params_M', open_figure).verdict == 'unexplained'
    assert tool.compare(wrong, 'params_M', replace(open_figure, unexplained=13.1)).differs
    with pytest.raises(UserError, match='no part'):
        tool.compare(no_head, 'params_M', replace(exception, without=('tail',)))


def test_rounding(tool) -> None:
    assert tool.agrees(24.486, 24.5)
    assert not tool.agrees(24.486, 25)
    assert tool.agrees(24.96, 24, 'down')
    assert not tool.agrees(25.0, 24, 'down')
    assert tool.agrees(20.04, 20.0)
    assert not tool.agrees(20.06, 20.0)


def test_unknown_key_in_the_table_is_refused(tmp_path) -> None:
    table = tmp_path / 'papers.yaml'
    table.write_text(TABLE.read_text().replace('params_M: 13.2,', 'parms_M: 13.2,', 1))
    with pytest.raises(UserError, match='parms_M'):
        load_papers(table)


def test_counts_of_a_detector_add_up() -> None:
    """By hand: the region heads on 1000 boxes and 100 masks, at the published size."""
    cfg = Config.fromfile(ROOT / 'configs/mmdet/mask-rcnn_pvt_tiny_1x_coco.py')
    counted = measure(cfg)
    box = 256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 320)
    mask = 14 * 14 * (4 * 256 * 256 * 9 + 256 * 256 * 4) + 28 * 28 * 256 * 80
    assert counted.macs['bbox_head'] == 1000 * box
    assert counted.macs['mask_head'] == 100 * mask
    assert counted.spread == 100 * (28 * 28 - 14 * 14) * 256 * 256 * 4
    assert counted.of('roi_head.mask_head.upsample') == (
        256 * 256 * 4 + 256,
        100 * 196 * 256 * 1024,
    )
    assert (
        counted.of('neck') == counted.of('nec*') == (counted.params['neck'], counted.macs['neck'])
    )
    assert counted.of('tail') is None
    assert counted.params['neck'] == sum(c * 256 + 256 for c in (64, 128, 320, 512)) + 4 * (
        256 * 256 * 9 + 256
    )
    assert counted.macs.get('other', 0) == 0


def test_counts_of_a_segmentor_hold_the_interpolations() -> None:
    """Four maps in the PaCa head, the first to its own size, and the logits to the image."""
    cfg = Config.fromfile(ROOT / 'configs/mmseg/paca_pacavit_tiny_ade20k.py')
    counted = measure(cfg, (64, 96))
    assert counted.bilinear == 4 * 256 * 16 * 24 + 150 * 64 * 96
    assert counted.spread == 0


def test_get_flops_tool(run_tool) -> None:
    config = 'configs/mmpretrain/pvt_tiny_spm_in1k.py'
    done = run_tool('tools/analysis_tools/get_flops.py', config)
    assert '14,029,480      2.553' in done.stdout
    assert re.search(r'mergings\.2 +1,162,752', done.stdout)
    done = run_tool('tools/analysis_tools/get_flops.py', config, '--shape', 20, 20, status=2)
    assert 'at least 32 x 32' in done.stderr


def test_results_of_runs(tool, tmp_path, capsys) -> None:
    """Logs of a finished and of an unfinished run, as mmengine writes them."""
    for name, log, line in (
        ('pvt_tiny_spm_in1k', '{"lr": 1e-3, "step": 2}', '{"accuracy/top1": 79.25, "step": 300}'),
        (
            'mask-rcnn_pvt_tiny_1x_coco',
            '{"coco/bbox_mAP": 0.1, "step": 1}',
            '{"coco/bbox_mAP": 0.25, "coco/segm_mAP": 0.2, "coco/bbox_mAP_s": -1, "step": 3}',
        ),
    ):
        framework = 'mmpretrain' if name.endswith('in1k') else 'mmdet'
        work_dir = tmp_path / name
        (work_dir / '20260101_000000' / 'vis_data').mkdir(parents=True)
        Config.fromfile(ROOT / f'configs/{framework}/{name}.py').dump(work_dir / f'{name}.py')
        scalars = work_dir / '20260101_000000' / 'vis_data' / 'scalars.json'
        scalars.write_text(f'{log}\n{line}\n')
    tool.print_results(tmp_path, 'spm')
    out = capsys.readouterr().out
    assert (
        '| spm.1 | mmpretrain/pvt_tiny_spm_in1k | top1 | 79.5 | 79.25 | -0.25 | finished, 300 |'
        in out
    )
    assert '| AP_b | 36.7 | 25.00 | -11.70 | NOT FINISHED, 3 of 12 |' in out
    assert '| AP_m | 35.1 | 20.00 |' in out
    assert 'AP_b_small' not in out
    scalars.write_text('{"coco/bbox_mAP": ')
    with pytest.raises(UserError, match=r'scalars.json, line 1'):
        tool.print_results(tmp_path, 'spm')
    with pytest.raises(UserError, match='no results'):
        tool.print_results(tmp_path, 'lit')


def test_multi_scale_results(tool, tmp_path) -> None:
    """A test of several scales is known by its config, and stands beside the single one."""
    name = 'upernet_sgformer_small_ade20k'
    work_dir = tmp_path / name
    for folder, model, miou in (('1', 'EncoderDecoder', 49.0), ('2', 'SegTTAModel', 51.0)):
        (work_dir / folder / 'vis_data').mkdir(parents=True)
        (work_dir / folder / 'vis_data/config.py').write_text(f"model = dict(type='{model}')\n")
        (work_dir / folder / f'{folder}.json').write_text(f'{{"mIoU": {miou}}}\n')
    run = tool.read_run(work_dir, f'mmseg/{name}')
    assert run.metrics == {'mIoU': 49.0, 'mIoU_ms': 51.0}


def test_peers(tool) -> None:
    """What a paper quotes may differ by 3 %, and a peer without a config is printed as it stands."""
    row = row_of('mmpretrain/resnet18_in1k', 'spm.1')
    assert row.peer
    assert tool.compare(row, 'params_M').verdict == 'agrees'
    assert tool.compare(replace(row, figures={'params_M': 11.5}), 'params_M').verdict == 'quoted'
    assert tool.compare(replace(row, figures={'params_M': 11.2}), 'params_M').differs
    own = row_of('mmpretrain/pvt_tiny_in1k', 'spm.1')
    assert tool.compare(replace(own, figures={'params_M': 13.1}), 'params_M').differs
    without = [row for row in ROWS if not row.config]
    assert all(row.peer for row in without)
    assert any(row.name == 'CSWin-B' for row in without)


def test_peers_are_explained(tool) -> None:
    """Every figure that a paper quotes comes out, or its exception says which figure it is."""
    peers = {row.config for row in ROWS if row.peer and row.config}
    for (table, config, figure), exception in EXCEPTIONS.items():
        assert exception.unexplained is None or config not in peers, (table, config, figure)
    row = row_of('mmpretrain/hrnet_w32_in1k', 'hafa.1')
    macs = tool.count(row, 'flops_G', None)
    assert tool.count(row, 'flops_G', 'binary') * 2**30 == pytest.approx(macs * 1e9)


def test_tables_are_whole(tool, monkeypatch, capsys) -> None:
    """Every printed row of a paper is a line, with the columns for latency and for multiple scales."""
    monkeypatch.setattr(tool, 'compare', lambda row, figure, _: SimpleNamespace(as_counted=1.0))
    tool.print_tables('hafa', None)
    out = capsys.readouterr().out
    assert '| LAA / LAA / SIA | 79.8 | 16.3 | mmpretrain/pvtv2_b1_hafa_in1k |' in out
    assert '| DynamicViT-LV-S/0.5 | 26.9 | 3.7 | 82.0 |  |' in out
    assert '| PVT-Tiny | 13.2 (1.000) | 1.9 (1.000) | 75.1 | mmpretrain/pvt_tiny_in1k |' in out
    tool.print_tables('sgformer', None)
    out = capsys.readouterr().out
    assert 'mIoU_ms' in out
    lines = [row for row in ROWS if row.paper == 'sgformer']
    assert sum(line.startswith('| ') and '---' not in line for line in out.splitlines()) == len(
        lines
    ) + len({row.table for row in lines})


def test_get_flops_splits_mergings(load_tool, capsys) -> None:
    """SPM, Figure 6(a): the queries, keys and values of GLE, and all mergings beside those of PVT."""
    tool = load_tool('tools/analysis_tools/get_flops.py')

    def count(name: str, *options: str) -> dict[str, list[float]]:
        tool.main([str(ROOT / f'configs/mmpretrain/{name}.py'), *options])
        found: dict[str, list[float]] = {}
        for line in capsys.readouterr().out.splitlines()[2:]:
            *label, _, macs = line.split()
            found.setdefault(' '.join(label), []).append(float(macs))
        return found

    plain = count('pvt_tiny_in1k', '--as-published')
    assert plain['mergings'] == [0.090]
    spm = count('pvt_tiny_spm_in1k', '--as-published')
    assert spm['mergings'] == [0.903]
    assert sum(spm['enhancement.qkv']) == pytest.approx(0.686, abs=0.0015)
    assert len(spm['aggregation.proj']) == 3
    # Ours spares the queries of all tokens but the guides.
    assert count('pvt_tiny_spm_in1k')['mergings'] == [0.71]
