"""The report of a GPU, tried out on the CPU."""

import json
from pathlib import Path

import pytest

TESTS = """
import pytest
@pytest.mark.gpu
def test_good(): pass
@pytest.mark.gpu
def test_bad(): assert False
def test_other(): pass
"""


@pytest.fixture
def tool(load_tool):
    return load_tool('tools/analysis_tools/gpu_report.py')


def run(tool, out: Path, *options: str) -> list[dict]:
    tool.main([
        '--out', str(out), '--device', 'cpu', '--backend', 'eager', '--warmup', '0', '--repeat', '2',
        '--sizes', '32:1', '32x40:2', *options,
    ])  # fmt: skip
    return [json.loads(line) for line in (out / 'rows.jsonl').read_text().splitlines()]


@pytest.mark.slow
def test_every_section(tool, tmp_path: Path) -> None:
    """Rows in their order, an unknown model beside those that run, the same in both files."""
    (tmp_path / 'test_some.py').write_text(TESTS)
    rows = run(
        tool, tmp_path / 'out', '--subjects', 'nothing', 'timm.pvt_v2_b1', '--minutes', '60',
        '--tests', str(tmp_path / 'test_some.py'),
    )  # fmt: skip
    sections = [row['section'] for row in rows]
    assert list(dict.fromkeys(sections)) == list(tool.SECTIONS)
    (tests,) = (row for row in rows if row['section'] == 'tests')
    assert (tests['passed'], len(tests['failed']), tests['skipped']) == (1, 1, 0)
    eager = [row for row in rows if row['section'] == 'eager']
    assert [(row['name'], row.get('mode')) for row in eager] == [
        ('nothing', None), ('nothing', None),
        ('timm.pvt_v2_b1', 'training'), ('timm.pvt_v2_b1', 'inference'),
    ]  # fmt: skip
    for row in rows:
        if 'ms' in row:
            assert row['images_per_second'] == pytest.approx(1e3 * int(row['size'][-1]) / row['ms'])
    assert all('neither a config nor a backbone' in row['error'] for row in eager[:2])
    page = (tmp_path / 'out/report.md').read_text()
    for row in rows:
        assert row['name'] in page


def test_budget(tool, tmp_path: Path) -> None:
    """What no longer fits is named, not run."""
    rows = run(tool, tmp_path, '--minutes', '0.001', '--only', 'card', 'eager')
    assert len(rows) == 1 + 2 * len(tool.SUBJECTS)
    assert all('are left' in row['skipped'] for row in rows)


def test_row_that_hangs(tool, tmp_path: Path) -> None:
    """A row is stopped where the budget ends, and its error is kept."""
    report = tool.Report(tmp_path, 0.01)

    def hang() -> dict:
        while True:
            pass

    report.run(tool.Row('eager', 'endless', 0, hang))
    (row,) = report.rows
    assert row['error'].startswith('TimeoutError')


def test_bad_input(tool, tmp_path: Path) -> None:
    (tmp_path / 'rows.jsonl').touch()
    with pytest.raises(SystemExit, match='holds a report already'):
        run(tool, tmp_path)
