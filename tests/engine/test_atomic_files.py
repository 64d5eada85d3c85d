import errno
import os
from pathlib import Path

import pytest
import torch

from spm_mm.engine import AtomicLocalBackend, whole_file
from spm_mm.errors import UserError
from tests.engine.toy import write_config


def test_nothing_half_written(tmp_path) -> None:
    file = tmp_path / 'new' / 'weights.pth'
    with pytest.raises(RuntimeError, match='killed'), whole_file(file) as partial:  # noqa: PT012
        partial.write_bytes(b'half')
        raise RuntimeError('killed')
    assert not list(file.parent.iterdir())
    with whole_file(file) as partial:
        partial.write_bytes(b'whole')
    assert file.read_bytes() == b'whole'
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(UserError, match=r'cannot be written: No space left'), whole_file(file):
        raise full
    assert file.read_bytes() == b'whole'
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='there is no /dev/full')
def test_full_disk_is_named(tmp_path) -> None:
    """/dev/full lets every write fail."""
    (tmp_path / 'weights.pth.part').symlink_to('/dev/full')
    file, weights = tmp_path / 'weights.pth', {'a': torch.ones(10000)}
    with pytest.raises(UserError, match=r'weights\.pth cannot be'), whole_file(file) as partial:
        torch.save(weights, partial)
    assert not list(tmp_path.iterdir())


def test_old_checkpoint_stays_until_the_new_one_is_whole(tmp_path, monkeypatch) -> None:
    backend, other = AtomicLocalBackend(), AtomicLocalBackend()
    old, new = tmp_path / 'iter_2.pth', tmp_path / 'iter_4.pth'
    backend.put(b'old', old)
    backend.remove(old)
    replace = os.replace

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('os.replace', killed)
    with pytest.raises(KeyboardInterrupt):
        other.put(b'new', new)
    assert old.read_bytes() == b'old'
    monkeypatch.setattr('os.replace', replace)
    other.put(b'new', new)
    assert list(tmp_path.iterdir()) == [new]
    # Written again under the name that was removed: mmengine's best checkpoint.
    backend.remove(new)
    other.put(b'newer', new)
    assert new.read_bytes() == b'newer'
    other_file = tmp_path / 'a.txt'
    other_file.touch()
    backend.remove(other_file)
    assert not other_file.exists()


def test_max_keep_ckpts(run_here, tmp_path) -> None:
    config = write_config(tmp_path / 'toy.py')
    ended = run_here(
        'tools/train.py', config, '--work-dir', tmp_path / 'work', '--cfg-options',
        'default_hooks.checkpoint.max_keep_ckpts=1', 'default_hooks.checkpoint.interval=1',
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert [file.name for file in (tmp_path / 'work').glob('*.pth')] == ['iter_4.pth']


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_read_only_work_dir(run_here, tmp_path) -> None:
    config = write_config(tmp_path / 'toy.py')
    (tmp_path / 'work').mkdir(mode=0o500)
    ended = run_here('tools/train.py', config, '--work-dir', tmp_path / 'work')
    assert ended.status == 2
    assert f'error: {tmp_path}/work' in ended.err
