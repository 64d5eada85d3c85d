"""Resuming by mmengine's own means, and what is said of a checkpoint."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spm_mm.compat import load_checkpoint
from tests.engine.toy import write_config

TRAIN = 'tools/train.py'


@pytest.fixture
def trained(run_here, tmp_path):
    """A toy's config and its work dir after 4 iterations; checkpoints at 2 and 4."""
    config = write_config(tmp_path / 'toy.py')
    ended = run_here(TRAIN, config, '--work-dir', tmp_path / 'work')
    assert ended.status == 0, ended.err
    return config, tmp_path / 'work'


def resume(run_here, config: Path, work_dir: Path, *options: str, iterations: int = 6):
    return run_here(
        TRAIN, config, '--work-dir', work_dir, '--resume', '--cfg-options',
        f'train_cfg.max_iters={iterations}', *options,
    )  # fmt: skip


@pytest.mark.parametrize(
    'option',
    [
        'filename_tmpl=mine_{}.pth',
        'filename_tmpl=mine_{}.ckpt',
        'out_dir={tmp}/store',
        'interval=3',
    ],
)
def test_resume_reads_last_checkpoint(run_here, tmp_path, option) -> None:
    config = write_config(tmp_path / 'toy.py')
    option = f'default_hooks.checkpoint.{option.replace("{tmp}", str(tmp_path))}'
    ended = run_here(TRAIN, config, '--work-dir', tmp_path / 'work', '--cfg-options', option)
    assert ended.status == 0, ended.err
    kept = Path((tmp_path / 'work/last_checkpoint').read_text())
    before = kept.read_bytes()
    ended = resume(run_here, config, tmp_path / 'work', option)
    assert 'resumed epoch: 0, iter: 4' in ended.out, ended.err
    assert kept.read_bytes() == before


def test_the_dumped_config_resumes_the_latest_again(run_here, trained) -> None:
    config, work_dir = trained
    resume(run_here, config, work_dir)
    assert 'load_from = None' in (work_dir / 'toy.py').read_text()
    ended = run_here(
        TRAIN, work_dir / 'toy.py', '--work-dir', work_dir, '--cfg-options', 'train_cfg.max_iters=8'
    )
    assert 'resumed epoch: 0, iter: 6' in ended.out, ended.err


@pytest.mark.parametrize('harm', ['cut', 'gone', 'note empty', 'note gone'])
def test_a_damaged_end_is_passed_over(run_here, trained, harm) -> None:
    """What a run that was killed while it wrote can leave."""
    config, work_dir = trained
    newest, note = work_dir / 'iter_4.pth', work_dir / 'last_checkpoint'
    found = 2
    if harm == 'cut':
        newest.write_bytes(newest.read_bytes()[:-1000])
    elif harm == 'gone':
        newest.unlink()
    else:
        found = 4
        note.write_text('') if harm == 'note empty' else note.unlink()
    os.utime(work_dir / 'iter_2.pth', (1, 1))
    ended = resume(run_here, config, work_dir)
    assert f'resumed epoch: 0, iter: {found}' in ended.out, ended.err
    assert f'the newest whole checkpoint is {work_dir}/iter_{found}.pth' in ended.out


@pytest.mark.parametrize('gone', [True, False])
def test_a_lost_run_is_not_begun_anew(run_here, trained, gone) -> None:
    """As where a disk is not mounted: mmengine itself stops, too."""
    config, work_dir = trained
    for file in work_dir.glob('*.pth'):
        file.unlink() if gone else file.write_bytes(b'no checkpoint')
    ended = resume(run_here, config, work_dir)
    assert ended.status == 2
    assert (
        'iter_4.pth, and neither that nor another checkpoint of this run can be read' in ended.err
    )
    assert sum(file.stat().st_size > 100 for file in work_dir.glob('*.pth')) == 0


def test_nothing_to_resume_is_said_loudly(run_here, trained, tmp_path) -> None:
    config, work_dir = trained
    mistyped = tmp_path / 'wrok'
    ended = resume(run_here, config, mistyped)
    assert ended.status == 0, ended.err
    assert f'NOTHING TO RESUME: there is no training checkpoint in {mistyped}' in ended.out
    assert 'starts from scratch' in ended.out
    weights = work_dir / 'iter_4.pth'
    ended = resume(run_here, config, tmp_path / 'third', f'load_from={weights}')
    assert f'Training starts from {weights}' in ended.out
    assert f'Load checkpoint from {weights}' in ended.out
    assert 'resumed epoch' not in ended.out


def test_resume_from_a_missing_file_is_an_error(run_here, trained) -> None:
    config, work_dir = trained
    ended = run_here(TRAIN, config, '--work-dir', work_dir, '--resume', work_dir / 'iter_9.pth')
    assert ended.status == 2
    assert 'iter_9.pth does not exist' in ended.err


def test_resume_set_in_the_config(run_here, trained) -> None:
    config, work_dir = trained
    for options in (['resume=True'], ['resume=True', f'load_from={work_dir}/iter_2.pth']):
        ended = run_here(
            TRAIN,
            config,
            '--work-dir',
            work_dir,
            '--cfg-options',
            *options,
            'train_cfg.max_iters=4',
        )
        assert f'resumed epoch: 0, iter: {4 if len(options) == 1 else 2}' in ended.out, ended.err


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_weights_alone_are_loaded(run_here, trained, tmp_path, suffix) -> None:
    config, work_dir = trained
    weights = load_checkpoint(work_dir / 'iter_4.pth')['state_dict']
    file = tmp_path / f'weights.{suffix}'
    torch.save(weights, file) if suffix == 'pth' else save_file(weights, file)
    ended = run_here('tools/test.py', config, file, '--work-dir', tmp_path / 'test')
    assert ended.status == 0, ended.err
    assert 'count: 8' in ended.out
    assert 'is it the checkpoint' not in ended.out
    again = run_here(
        TRAIN, config, '--work-dir', tmp_path / 'again', '--cfg-options', f'load_from={file}'
    )
    assert f'Load checkpoint from {file}' in again.out, again.err


def test_what_does_not_fit_is_told_and_taken(run_here, trained, tmp_path) -> None:
    """As the frameworks' own tools take it."""
    config, _ = trained
    other, broken = tmp_path / 'other.pth', tmp_path / 'nan.pth'
    torch.save({'state_dict': {'layer.weight': torch.ones(1, 1), 'head.a': torch.ones(1)}}, other)
    torch.save({'layer.weight': torch.full((1, 1), torch.nan), 'layer.bias': torch.ones(1)}, broken)
    ended = run_here('tools/test.py', config, other, '--work-dir', tmp_path / 'test')
    assert ended.status == 0, ended.err
    assert f'{other} fits 1 of the 2 entries of this Toy, and has 1 others' in ended.out
    ended = run_here('tools/test.py', config, broken, '--work-dir', tmp_path / 'test')
    assert ended.status == 0, ended.err
    assert f'{broken} holds NaN or infinity in 1 entries, first layer.weight' in ended.out


def test_an_unreadable_checkpoint_is_named(run_here, trained, tmp_path) -> None:
    config, work_dir = trained
    cut = tmp_path / 'cut.pth'
    cut.write_bytes((work_dir / 'iter_4.pth').read_bytes()[:3000])
    for tool in ((TRAIN, config, '--resume', cut), ('tools/test.py', config, cut)):
        ended = run_here(*tool, '--work-dir', tmp_path / 'out')
        assert ended.status == 2
        assert f'{cut} cannot be read by the safe loader: it is damaged, cut off' in ended.err
