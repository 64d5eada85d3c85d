from pathlib import Path

import pytest
import torch

from spm_mm.compat import load_weights
from tests.parity.fixtures import make_state_dict, read_fixture

FETCH = 'tools/model_converters/fetch.py'


@pytest.fixture
def index(tmp_path: Path, root: Path) -> Path:
    """An index of weights that a folder has."""
    fixture = read_fixture(root / 'tests/parity/oracles/pvt_v2_b0.json')
    torch.save(make_state_dict(fixture), tmp_path / 'pvt_v2_b0.pth')
    path = tmp_path / 'index.yaml'
    path.write_text(
        'pvt:\n  licence: none stated\n  source: a test\n  weights:\n    b0:\n'
        '      model: PVTv2-B0\n      task: classification\n      figures: {top1: 70.5}\n'
        '      url: https://127.0.0.1:9/pvt_v2_b0.pth\n'
    )
    return path


def test_fetch_prints_the_converted_file(index: Path, run_here, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv('SPM_MM_WEIGHTS', str(tmp_path))
    monkeypatch.setenv('SPM_MM_CACHE', '')
    cache = tmp_path / 'cache'
    done = run_here(FETCH, 'pvt/b0', '--index', index, '--cache', cache)
    path = Path(done.stdout.strip())
    assert path.is_relative_to(cache)
    assert 'backbone.stem.conv.weight' in load_weights(path)


def test_list_and_mistakes(index: Path, run_here) -> None:
    done = run_here(FETCH, '--list', 'b0', '--index', index)
    line = 'pvt/b0; PVTv2-B0; classification; top1 70.5; none stated; not checked'
    assert done.stdout.strip() == line
    assert run_here(FETCH, '--list', 'other', '--index', index).stdout == ''
    assert 'name weights to fetch' in run_here(FETCH, '--index', index, status=2).stderr
    done = run_here(FETCH, 'pvt/b1', '--index', index, status=2)
    assert "no published weights 'pvt/b1': did you mean 'pvt/b0'?" in done.stderr
