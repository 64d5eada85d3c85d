import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from spm_mm.compat import allow_training_checkpoints, load_checkpoint, load_weights


def test_log_buffers_are_read_by_the_safe_loader(tmp_path) -> None:
    buffer = HistoryBuffer()
    buffer.update(0.5)
    path = tmp_path / 'training.pth'
    content = dict(buffer=buffer, number=np.float64(3.5), where=slice(1, 2), array=np.arange(3))
    torch.save(content, path)
    allow_training_checkpoints()
    loaded = load_checkpoint(path)
    assert loaded['buffer'].current() == 0.5
    assert loaded['buffer'].statistics('mean') == 0.5
    assert loaded['number'] == 3.5
    assert loaded['where'] == slice(1, 2)
    assert loaded['array'].tolist() == [0, 1, 2]


class Attack:
    """A pickle that would call ``getattr(owner, name)``."""

    def __init__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


@pytest.mark.parametrize('attack', [Attack(HistoryBuffer, '__init__'), Attack(np.ndarray, 'dump')])
def test_getattr_is_restricted(tmp_path, attack: Attack) -> None:
    allow_training_checkpoints()
    path = tmp_path / 'attack.pth'
    torch.save({'x': attack}, path)
    with pytest.raises(ValueError, match='cannot be read by the safe loader'):
        load_checkpoint(path)


class Shell:
    def __reduce__(self):
        return eval, ('1',)


def test_code_is_refused(tmp_path) -> None:
    path = tmp_path / 'code.pth'
    path.write_bytes(pickle.dumps({'x': Shell()}))
    with pytest.raises(ValueError, match='cannot be read by the safe loader'):
        load_checkpoint(path)


def test_weights_in_every_wrapping(tmp_path) -> None:
    from safetensors.torch import save_file

    weight = {'a.weight': torch.ones(2)}
    for name, content in (
        ('plain', weight),
        ('mm', {'state_dict': weight, 'meta': {'epoch': 1}}),
        ('timm', {'model': {f'module.{k}': v for k, v in weight.items()}, 'epoch': 3}),
    ):
        path = tmp_path / f'{name}.pth'
        torch.save(content, path)
        assert list(load_weights(path)) == ['a.weight'], name
    save_file(weight, tmp_path / 'w.safetensors')
    assert list(load_weights(tmp_path / 'w.safetensors')) == ['a.weight']
    torch.save({'epoch': 3}, tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='holds no weights'):
        load_weights(tmp_path / 'none.pth')
