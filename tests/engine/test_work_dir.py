import os
import subprocess
import sys

import pytest
from mmengine.config import Config

from spm_mm.engine import check_config_is_kept, lock_work_dir
from spm_mm.errors import UserError
from tests.engine.conftest import ROOT
from tests.engine.toy import write_config

HOLD = """
import sys, time
from spm_mm.engine import lock_work_dir
lock_work_dir(sys.argv[1])
print('held', flush=True)
time.sleep(100)
"""


def test_second_run_is_refused_until_the_first_is_gone(tmp_path) -> None:
    first = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    try:
        assert first.stdout.readline() == b'held\n'
        with pytest.raises(UserError, match=rf'process {first.pid} on .* trains in the work dir'):
            lock_work_dir(str(tmp_path))
    finally:
        first.kill()
        first.wait()
    # What it wrote is still there, and nobody holds it.
    assert str(first.pid) in (tmp_path / '.lock').read_text()
    lock_work_dir(str(tmp_path))
    assert (tmp_path / '.lock').read_text().startswith(f'process {os.getpid()} on ')


@pytest.mark.parametrize('work_dir', ['.', '', '{folder}', '{folder}/../{name}'])
def test_config_is_not_overwritten(run_here, tmp_path, monkeypatch, work_dir) -> None:
    config = write_config(tmp_path / 'toy.py')
    text = config.read_text()
    cfg = Config.fromfile(config)
    cfg.work_dir = work_dir.format(folder=tmp_path, name=tmp_path.name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='over the config: choose another --work-dir'):
        check_config_is_kept(cfg)
    ended = run_here('tools/train.py', config, '--work-dir', tmp_path, '--resume')
    assert ended.status == 2
    assert 'choose another --work-dir' in ended.err
    assert config.read_text() == text
    assert list(tmp_path.iterdir()) == [config]


def test_dumped_config_trains_on_in_its_folder(run_here, tmp_path) -> None:
    config = write_config(tmp_path / 'toy.py')
    work_dir = tmp_path / 'work'
    assert run_here('tools/train.py', config, '--work-dir', work_dir).status == 0
    ended = run_here(
        'tools/train.py', work_dir / 'toy.py', '--work-dir', work_dir, '--resume', '--cfg-options',
        'train_cfg.max_iters=6',
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert 'resumed epoch: 0, iter: 4' in ended.out
    assert (work_dir / 'iter_6.pth').is_file()
