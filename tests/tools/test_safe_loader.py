"""A checkpoint that would run code is refused, with one sentence, wherever a tool reads one."""

from pathlib import Path

import pytest
import torch

CONFIG = 'configs/mmseg/fpn_pvt_tiny_spm_scenes.py'
INIT = ('model.backbone.init_cfg.type=Pretrained', 'model.backbone.init_cfg.checkpoint=HOSTILE')


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
        ('tools/test.py', CONFIG, 'HOSTILE', '--work-dir', 'OUT'),
        ('tools/model_converters/convert.py', 'pvt', 'HOSTILE', 'OUT/weights.pth'),
        ('tools/model_converters/publish.py', 'HOSTILE', 'OUT/weights.pth'),
        ('tools/doctor.py', 'HOSTILE'),
    ],
    ids=['train-resume', 'train-load', 'train-init', 'test', 'convert', 'publish', 'doctor'],
)
def test_hostile_file_is_refused(run_tool, scenes, hostile, tmp_path, command) -> None:
    out = tmp_path / 'out'
    words = [word.replace('HOSTILE', str(hostile)).replace('OUT', str(out)) for word in command]
    status = 1 if 'doctor' in words[0] else 2
    done = run_tool(*words, status=status, SCENES_ROOT=str(scenes), CUDA_VISIBLE_DEVICES='')
    text = done.stdout + done.stderr
    assert 'hostile.pth cannot be read by the safe loader: ' in text
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
