import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from spm_mm.compat import (
    allow_training_checkpoints,
    check_state_dict,
    load_checkpoint,
    load_weights,
)


def test_log_buffers_are_read_by_the_safe_loader(tmp_path) -> None:
    buffer = HistoryBuffer()
    buffer.update(0.5)
    path = tmp_path / 'training.pth'
    content = dict(buffer=buffer, number=np.float64(3.5), where=slice(1, 2), array=np.arange(3))
    torch.save(content, path)
    loaded = load_checkpoint(path)
    assert loaded['buffer'].current() == 0.5
    assert loaded['buffer'].statistics('mean') == 0.5
    assert loaded['number'] == 3.5
    assert loaded['where'] == slice(1, 2)
    assert loaded['array'].tolist() == [0, 1, 2]


def test_reading_a_file_leaves_what_is_allowed(tmp_path) -> None:
    torch.save({'a': torch.ones(1)}, tmp_path / 'a.pth')
    allow_training_checkpoints()
    before = set(torch.serialization.get_safe_globals())
    load_checkpoint(tmp_path / 'a.pth')
    assert set(torch.serialization.get_safe_globals()) == before


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
        ('module', {'module': weight}),
        ('averaged', {'model_ema': weight}),
        ('lightning', {'state_dict': {f'model.{k}': v for k, v in weight.items()}}),
        ('net', {'net': {f'module._orig_mod.{k}': v for k, v in weight.items()}}),
        ('compiled', {k.replace('.', '._orig_mod.'): v for k, v in weight.items()}),
    ):
        path = tmp_path / f'{name}.pth'
        torch.save(content, path)
        assert list(load_weights(path)) == ['a.weight'], name
    save_file(weight, tmp_path / 'w.safetensors')
    assert list(load_weights(tmp_path / 'w.safetensors')) == ['a.weight']
    torch.save({'epoch': 3}, tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='holds no weights'):
        load_weights(tmp_path / 'none.pth')


def test_a_folder_is_called_so(tmp_path) -> None:
    with pytest.raises(ValueError, match='is a folder: name a file in it, or convert'):
        load_checkpoint(tmp_path)


def test_numbers_that_are_no_weights_are_refused() -> None:
    layer = torch.nn.Linear(1, 1)
    for kind in (torch.int8, torch.complex64):
        weights = {key: value.to(kind) for key, value in layer.state_dict().items()}
        with pytest.raises(ValueError, match=f'weight holds {kind}, the model torch.float32'):
            check_state_dict(layer, weights, 'file')
    half = {key: value.bfloat16() for key, value in layer.state_dict().items()}
    assert check_state_dict(layer, half, 'file') == []


class Shout:
    def __reduce__(self):
        return os.system, ('true',)


@pytest.mark.parametrize('save', [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_what_was_refused_is_named(tmp_path, save) -> None:
    """By its own name, in one line, without torch's advice to switch the safe loader off."""
    path = tmp_path / 'hostile.pth'
    save({'x': Shout()}, path)
    with pytest.raises(ValueError, match=r'it asks for (posix|nt)\.system, which could') as caught:
        load_checkpoint(path)
    assert 'weights_only' not in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('end', [0, 1, 100, 5000, -10])
def test_a_cut_file_is_called_so(tmp_path, end) -> None:
    whole, cut = tmp_path / 'whole.pth', tmp_path / 'cut.pth'
    torch.save({'a': torch.ones(3000)}, whole)
    cut.write_bytes(whole.read_bytes()[:end])
    with pytest.raises(ValueError, match=r'cut\.pth cannot be .* it is damaged, cut off'):
        load_checkpoint(cut)
