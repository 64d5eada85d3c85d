"""Full and read-only disks, and a reader of the log that goes away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.conftest import ROOT
from tests.engine.toy import write_config

ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': ''}


def shell(
    script: str, *arguments: object, inside: tuple[str, ...] = ()
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*inside, 'bash', '-c', script, sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize(('option', 'said'), [('size=40k', 'No space left'), ('ro', 'Read-only')])
def test_disk_that_cannot_be_written(tmp_path, option, said) -> None:
    inside = ('unshare', '--mount')
    try:
        subprocess.run([*inside, 'true'], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'a file system of its own is not allowed here: {error}')
    config = write_config(tmp_path / 'toy.py')
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = (
        f'mount -t tmpfs -o {option} tmpfs "$2" && "$0" tools/train.py "$1" --work-dir "$2"/work'
    )
    done = shell(f'{mount}; code=$?; ls -a "$2"/work; exit $code', config, disk, inside=inside)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert str(disk) in line
    assert said in line
    assert 'Traceback' not in done.stderr
    assert '.part' not in done.stdout


@pytest.mark.slow
def test_log_that_nobody_reads(tmp_path) -> None:
    """`| head`: the run goes on to its end, without a traceback at every line."""
    config = write_config(tmp_path / 'toy.py')
    script = '"$0" tools/train.py "$1" --work-dir "$2" | head -n 1; exit ${PIPESTATUS[0]}'
    done = shell(script, config, tmp_path / 'work')
    assert 'Logging error' not in done.stderr
    assert 'Traceback' not in done.stderr
    assert Path(tmp_path, 'work/iter_4.pth').is_file()
