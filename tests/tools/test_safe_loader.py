"""A checkpoint that would run code is refused, with one sentence, wherever a tool reads one."""

from pathlib import Path

import pytest
import torch

from spm_mm.compat import allow_training_checkpoints, load_checkpoint

CONFIG = 'configs/mmseg/fpn_pvt_tiny_spm_scenes.py'
INIT = ('model.backbone.init_cfg.type=Pretrained', 'model.backbone.init_cfg.checkpoint=HOSTILE')
HOST_INIT = ('model.init_cfg.type=Pretrained', 'model.init_cfg.checkpoint=HOSTILE')


class WritesAFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    path = tmp_path / 'hostile.pth'
    torch.save({'state_dict': {'a': torch.ones(1)}, 'meta': WritesAFile(tmp_path / 'ran')}, path)
    torch.load(path, weights_only=False)
    (tmp_path / 'ran').unlink()  # it would
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    'command',
    [
        ('tools/train.py', CONFIG, '--resume', 'HOSTILE', '--work-dir', 'OUT'),
        ('tools/train.py', CONFIG, '--work-dir', 'OUT', '--cfg-options', 'load_from=HOSTILE'),
        ('tools/train.py', CONFIG, '--work-dir', 'OUT', '--cfg-options', *INIT),
        ('tools/train.py', CONFIG, '--work-dir', 'OUT', '--cfg-options', *HOST_INIT),
        ('tools/test.py', CONFIG, 'HOSTILE', '--work-dir', 'OUT'),
        ('tools/model_converters/convert.py', 'HOSTILE', 'OUT/weights.pth'),
        ('tools/model_converters/publish.py', 'HOSTILE', 'OUT/weights.pth'),
        ('tools/doctor.py', 'HOSTILE'),
    ],
    ids=[
        'train-resume',
        'train-load',
        'train-init',
        'train-host-init',
        'test',
        'convert',
        'publish',
        'doctor',
    ],
)
def test_hostile_file_is_refused(run_tool, scenes, hostile, tmp_path, command) -> None:
    out = tmp_path / 'out'
    words = [word.replace('HOSTILE', str(hostile)).replace('OUT', str(out)) for word in command]
    status = 1 if 'doctor' in words[0] else 2
    done = run_tool(*words, status=status, SCENES_ROOT=str(scenes), CUDA_VISIBLE_DEVICES='')
    text = done.stdout + done.stderr
    assert 'cannot be read by the safe loader: ' in text
    assert 'hostile.pth' in text
    assert 'io.open' in text
    assert 'Traceback' not in text
    assert not (tmp_path / 'ran').exists()
    assert not list(out.glob('*.pth'))


@pytest.mark.slow
def test_doctor_reads_ordinary_files(run_tool, tmp_path) -> None:
    weights = {'a.weight': torch.ones(2), 'a.bias': torch.ones(2)}
    torch.save({'state_dict': weights, 'meta': {'iter': 7}}, tmp_path / 'run.pth')
    text = run_tool('tools/doctor.py', tmp_path / 'run.pth').stdout
    assert 'run.pth: 2 tensors of a training run at iteration 7' in text


@pytest.mark.slow
@pytest.mark.parametrize('way', ['--resume', 'resume=True'])
def test_config_in_a_checkpoint_is_not_executed(run_tool, scenes, small, tmp_path, way) -> None:
    """mmengine executes the config that a checkpoint brings along when it resumes."""
    options = [*small, 'model.decode_head.num_classes=12', 'train_cfg.max_iters=2']
    options += ['default_hooks.checkpoint.interval=1']
    train = ('tools/train.py', CONFIG, '--work-dir')
    environment = dict(SCENES_ROOT=str(scenes), CUDA_VISIBLE_DEVICES='')
    run_tool(*train, tmp_path / 'one', *options, **environment)
    allow_training_checkpoints()
    checkpoint = load_checkpoint(tmp_path / 'one/iter_1.pth')
    checkpoint['meta']['config'] = f'open({str(tmp_path / "ran")!r}, "w")'
    torch.save(checkpoint, tmp_path / 'hostile.pth')
    if way == '--resume':
        options = ['--resume', tmp_path / 'hostile.pth', *options]
    else:
        options += [way, f'load_from={tmp_path / "hostile.pth"}']
    done = run_tool(*train, tmp_path / 'two', *options, **environment)
    assert 'resumed epoch: 0, iter: 1' in done.stdout + done.stderr
    assert not (tmp_path / 'ran').exists()


@pytest.mark.slow
def test_resume_without_a_checkpoint_starts_from_load_from(
    run_tool, scenes, small, tmp_path
) -> None:
    options = [*small, 'model.decode_head.num_classes=12', 'train_cfg.max_iters=1']
    train = ('tools/train.py', CONFIG, '--work-dir')
    environment = dict(SCENES_ROOT=str(scenes), CUDA_VISIBLE_DEVICES='')
    run_tool(*train, tmp_path / 'one', *options, **environment)
    given = f'load_from={tmp_path / "one/iter_1.pth"}'
    done = run_tool(*train, tmp_path / 'two', '--resume', *options, given, **environment)
    text = done.stdout + done.stderr
    assert 'resumed epoch' not in text
    assert 'Iter(train) [1/1]' in text
