import json

import pytest
from rich.console import Console

from spm_mm.compare.launch import run_cells
from spm_mm.compare.record import same_start
from spm_mm.compare.report import pareto_front, write_report
from spm_mm.compare.results import collect, join, per_class, summarize, thin
from spm_mm.compare.statistics import paired_difference
from spm_mm.compare.tables import class_table, markdown, summary_table
from spm_mm.errors import UserError

COLUMNS = {'conv': {0: 20.0, 1: 22.0, 2: 21.0}, 'spm': {0: 30.0, 1: 31.0, 2: 33.0}}


@pytest.fixture
def results(make_plan, launcher, monkeypatch) -> dict:
    monkeypatch.setattr('spm_mm.compare.launch.POLL_SECONDS', 0.02)
    plan = make_plan(COLUMNS)
    run_cells(plan.cells, launcher, 3, Console(quiet=True))
    monkeypatch.setattr('spm_mm.compare.results._data', lambda plan: {})
    return collect(plan)


def test_paired_difference() -> None:
    """The interval of a t-test by hand: mean 10.33, spread 1.528, t(2) = 4.3027."""
    found = paired_difference(COLUMNS['spm'], COLUMNS['conv'])
    assert found.mean == pytest.approx(31 / 3)
    half = 4.302653 * 1.527525 / 3**0.5
    assert (found.low, found.high) == pytest.approx((31 / 3 - half, 31 / 3 + half), rel=1e-5)
    assert found.verdict == 'higher'
    assert paired_difference(COLUMNS['conv'], COLUMNS['spm']).verdict == 'lower'
    assert paired_difference({0: 1.0, 1: 2.0, 2: 3.0}, {0: 2.0, 1: 1.0, 2: 3.5}).verdict == (
        'not told apart'
    )


def test_fewer_than_three_common_seeds_tell_nothing() -> None:
    found = paired_difference({0: 90.0, 1: 91.0, 5: 3.0}, {0: 1.0, 1: 3.0, 7: 1.0})
    assert (found.seeds, found.low, found.verdict) == (2, None, 'not told apart')
    assert found.mean == 88.5
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    equal = paired_difference({0: 2.0, 1: 3.0, 2: 4.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert (equal.mean, equal.verdict) == (1.0, 'not told apart')


def test_summary(results) -> None:
    assert results['metric'] == 'mIoU'
    conv, spm = summarize(results)
    assert (conv['mean'], conv['spread'], conv['difference']) == (21.0, 1.0, None)
    assert spm['difference']['verdict'] == 'higher'
    assert per_class(results) == {'cat': [50.0, 50.0]}
    table = summary_table(results)
    assert table.rows[1][-3:] == ['+10.33', '+6.54 to +14.13', 'higher']
    assert class_table(results).rows == [['cat', '50.0', '50.0']]


def test_seeds_with_other_data_are_not_paired(results) -> None:
    for cell in results['columns'][1]['cells'][:2]:
        cell['batches'] = {'sha256': ['other'], 'images': [[]]}
    assert summarize(results)[1]['difference']['seeds'] == 1


def test_reports_are_joined(results, tmp_path) -> None:
    other = json.loads(json.dumps({**results, 'name': 'other'}))
    other['columns'] = [{**other['columns'][1], 'label': 'sia'}, other['columns'][0]]
    joined = join([results, other])
    labels = [column['label'] for column in joined['columns']]
    assert labels == ['comparison: conv', 'spm', 'sia', 'other: conv']
    # JSON has made texts of no key that matters: the joined seeds are paired with the first column's.
    assert summarize(joined)[2]['difference']['verdict'] == 'higher'
    files = write_report(tmp_path / 'joint', joined)
    assert all(path.stat().st_size for path in files)
    with pytest.raises(UserError, match='its metric is mAcc, not mIoU'):
        join([results, {**other, 'metric': 'mAcc'}])


def test_the_page_is_one_file(results, tmp_path) -> None:
    results['columns'][1]['label'] = '<b>spm'
    page, text, table, data = write_report(tmp_path / 'out', results)
    html = page.read_text()
    for forbidden in ('src="http', "src='http", 'href="http', '<b>spm', '@import'):
        assert forbidden not in html.replace(
            html[html.index('<script>') : html.index('</script>')], ''
        )
    assert html.count('class="plotly-graph-div"') == 2  # no costs, so no picture of them
    assert '+6.54 to +14.13' in text.read_text()
    assert table.read_text().count('\n') == 3
    assert json.loads(data.read_text())['columns'][0]['cells'][2]['metrics']['mIoU'] == 21.0
    assert markdown(results) == text.read_text()


def test_an_unknown_metric(make_plan, launcher) -> None:
    plan = make_plan({'conv': {0: 1.0}})
    run_cells(plan.cells, launcher, 1, Console(quiet=True))
    with pytest.raises(UserError, match='--metric mDice was not measured; there are mIoU'):
        collect(plan, 'mDice')


def test_a_run_that_is_not_finished(make_plan, monkeypatch) -> None:
    monkeypatch.setattr('spm_mm.compare.results._data', lambda plan: {})
    results = collect(make_plan(COLUMNS))
    assert results['metric'] is None
    assert summary_table(results).rows[0][3:6] == ['-', '-', '0 of 3']
    assert '| conv | 0 | waiting | 0 of ? | - |' in markdown(results)


def test_curves_are_thinned() -> None:
    points = thin([(i, float(i)) for i in range(1000)])
    assert len(points) == 200
    assert points[0] == [2.0, 2.0]
    assert thin([]) == []


def test_pareto_front() -> None:
    assert pareto_front([(2, 5), (1, 3), (3, 4), (1, 2), (4, 6)]) == [(1, 3), (2, 5), (4, 6)]


def test_batches_are_compared_as_far_as_both_have_come() -> None:
    one = dict(sha256=['a', 'b'], images=[['1', '2'], ['3', '4']])
    assert same_start(one, dict(sha256=['a'], images=[['1', '2']]), 'sha256')
    assert not same_start(one, dict(sha256=['a', 'c'], images=[]), 'sha256')
    assert same_start(one, dict(sha256=['x'], images=[['1', '2', '3']]), 'images')
    assert not same_start(one, dict(sha256=['x'], images=[['1', '3']]), 'images')
