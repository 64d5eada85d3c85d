"""What training scripts write around the weights: entries, prefixes, averages, objects of their own."""

import argparse
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from safetensors.torch import save_file
from torch import Tensor, nn

from spm_mm.converters import read_checkpoint
from spm_mm.converters.tensors_only import read_tensors_only, rewrite
from spm_mm.errors import UserError

RAW, AVERAGED = {'a.weight': torch.zeros(2)}, {'a.weight': torch.ones(2)}


class ConfigNode(dict):
    """As yacs' settings, which Swin's training writes: a dict of a class of its own."""


class Settings:
    def __init__(self) -> None:
        self.model, self.scores = 'pvt', np.array([1.0, 2.0])


class Harmful:
    """Unpickled by Python's own loader, this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def read(tmp_path: Path, content: object, **options: object):
    torch.save(content, tmp_path / 'file.pth', **options)
    return read_checkpoint(tmp_path / 'file.pth')


def value(weights: dict[str, Tensor]) -> float:
    return float(weights['a.weight'][0])


@pytest.mark.parametrize('entry', ['state_dict', 'model', 'module', 'net', None])
@pytest.mark.parametrize('prefix', ['', 'module.', 'module._orig_mod.', 'model.'])
def test_entries_and_prefixes(entry: str | None, prefix: str, tmp_path: Path) -> None:
    weights = {prefix + key: tensor for key, tensor in RAW.items()}
    content = weights if entry is None else {entry: weights, 'optimizer': {'state': AVERAGED}}
    found = read(tmp_path, content)
    assert found.raw.keys() == RAW.keys()
    assert found.averaged is None


@pytest.mark.parametrize('entry', ['model_ema', 'state_dict_ema', 'ema_state_dict', 'teacher'])
def test_averaged_weights_are_chosen(entry: str, tmp_path: Path) -> None:
    raw = 'student' if entry == 'teacher' else 'model'
    found = read(tmp_path, {raw: RAW, entry: {f'module.{k}': v for k, v in AVERAGED.items()}})
    weights, which = found.choose(None)
    assert value(weights) == 0
    assert which.startswith(f'raw weights, entry {raw!r}; it also holds averaged ones')
    assert which.endswith(f'entry {entry!r}: --ema takes those')
    assert value(found.choose(None, prefer_averaged=True)[0]) == 1
    assert value(found.choose(True)[0]) == 1
    assert value(found.choose(False, prefer_averaged=True)[0]) == 0


def test_averaged_weights_alone(tmp_path: Path) -> None:
    found = read(tmp_path, {'state_dict_ema': AVERAGED})
    assert value(found.choose(None)[0]) == 1
    with pytest.raises(UserError, match='holds no raw weights, only averaged ones'):
        found.choose(False)


def test_mmengine_exchanges_the_two_when_it_saves(tmp_path: Path) -> None:
    from mmengine.hooks import EMAHook
    from mmengine.model import ExponentialMovingAverage

    model = nn.ModuleDict({'a': nn.Linear(1, 1)})
    nn.init.zeros_(model['a'].weight)
    hook = EMAHook()
    hook.ema_model = ExponentialMovingAverage(model)
    nn.init.ones_(hook.ema_model.module['a'].weight)
    checkpoint = {'state_dict': model.state_dict()}
    checkpoint['ema_state_dict'] = hook.ema_model.state_dict()
    hook._swap_ema_state_dict(checkpoint)
    found = read(tmp_path, checkpoint)
    assert (value(found.raw), value(found.averaged)) == (0, 1)


def test_mmcv_1_keeps_the_raw_ones_as_buffers(tmp_path: Path) -> None:
    found = read(tmp_path, {'state_dict': {**AVERAGED, 'ema_a_weight': RAW['a.weight']}})
    assert (value(found.raw), value(found.averaged)) == (0, 1)
    assert found.raw.keys() == found.averaged.keys() == RAW.keys()


def contents() -> dict[str, dict]:
    hub = MessageHub.get_instance('test_read')
    hub.update_scalar('train/loss', 1.0)
    return {
        'mmengine': {'message_hub': hub.state_dict()},
        'mmcv 1': {'meta': {'hook_msgs': {'best_score': np.float64(41.0)}, 'config': 'type=PVT'}},
        'DeiT': {'args': argparse.Namespace(model='pvt_tiny', output_dir=Path('out'))},
        'yacs': {'config': ConfigNode(MODEL=ConfigNode(NAME='swin'))},
        'object': {'args': Settings(), 'function': nn.functional.relu, 'dtype': torch.float16},
    }


@pytest.mark.parametrize(
    ('kind', 'form'), [*((kind, 'zip') for kind in contents()), ('object', 'legacy')]
)
def test_objects_beside_the_weights(kind: str, form: str, tmp_path: Path) -> None:
    content = {'model': dict(RAW, scalar=nn.Parameter(torch.ones(3).half())), **contents()[kind]}
    found = read(tmp_path, content, _use_new_zipfile_serialization=form == 'zip')
    assert torch.equal(found.raw['scalar'], torch.ones(3).half())
    allowed = ('mmengine', 'mmcv 1')
    assert bool(found.notes) == (kind not in allowed)
    if kind == 'mmcv 1':
        assert 'type=PVT' in found.clues


@pytest.mark.parametrize('form', ['zip', 'legacy'])
def test_nothing_that_a_file_names_is_run(form: str, tmp_path: Path) -> None:
    made = tmp_path / 'made'
    harmful = {'state_dict': RAW, 'other': Harmful(made)}
    found = read(tmp_path, harmful, _use_new_zipfile_serialization=form == 'zip')
    assert value(found.raw) == 0
    assert not made.exists()
    torch.load(tmp_path / 'file.pth', weights_only=False)
    assert made.exists()  # so the test can fail


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'', 'an empty file'),
        (b'  <!DOCTYPE html>', 'a web page'),
        (b'version https://git-lfs.github.com/spec/v1', 'a pointer of Git LFS'),
        (b'{"weight_map": {}}', 'name its folder'),
        (b'PK' + bytes(600), 'its end is missing'),
    ],
)
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_what_a_file_is_instead(content: bytes, said: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f'file.{suffix}'
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf'file\.{suffix} cannot be read .*\(.*{said}') as caught:
        read_checkpoint(path)
    assert 'alone' not in str(caught.value)


def test_the_content_counts_not_the_name(tmp_path: Path) -> None:
    torch.save(AVERAGED, tmp_path / 'a.safetensors')
    save_file(AVERAGED, tmp_path / 'a.pth')
    assert value(read_checkpoint(tmp_path / 'a.safetensors').raw) == 1
    assert value(read_checkpoint(tmp_path / 'a.pth').raw) == 1
    torch.save({'model': RAW, 'args': Settings()}, tmp_path / 'b.safetensors')
    assert value(read_checkpoint(tmp_path / 'b.safetensors').raw) == 0


def test_whole_objects_and_odd_keys(tmp_path: Path) -> None:
    for content in (Settings(), {'model': Settings()}):
        with pytest.raises(
            UserError, match=r'holds no weights.* pickled whole, which are not read'
        ):
            read(tmp_path, content)
    with pytest.raises(UserError, match=r'holds a list, not a dict$'):
        read(tmp_path, [RAW])
    with pytest.raises(UserError, match=r'holds no weights; its keys are \[0\]'):
        read(tmp_path, {0: torch.ones(1)})
    assert value(read(tmp_path, {'model': {'state_dict': AVERAGED}}).raw) == 1
    assert value(read(tmp_path, {'params': {'a.weight': np.ones(2)}}).raw) == 1
    compiled = {'a._orig_mod.weight': torch.ones(2), 'b': torch.ones(1)}
    assert read(tmp_path, compiled).raw.keys() == {'a.weight', 'b'}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of Hugging Face with weights in two files."""
    save_file(RAW, tmp_path / 'model-00001-of-00002.safetensors')
    save_file({'b': torch.ones(1)}, tmp_path / 'model-00002-of-00002.safetensors')
    places = {key: f'model-0000{i}-of-00002.safetensors' for i, key in ((1, 'a.weight'), (2, 'b'))}
    (tmp_path / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': places}))
    (tmp_path / 'config.json').write_text('{"architectures": 3}')
    return tmp_path


def test_shards(shards: Path) -> None:
    assert read_checkpoint(shards).raw.keys() == {'a.weight', 'b'}
    with pytest.raises(UserError, match='is one part of a sharded checkpoint: name its folder'):
        read_checkpoint(shards / 'model-00001-of-00002.safetensors')
    save_file({'c': torch.ones(1)}, shards / 'model-00002-of-00002.safetensors')
    with pytest.raises(UserError, match='names 1 tensors that its files do not hold, first b'):
        read_checkpoint(shards)


@pytest.mark.parametrize(
    ('file', 'text', 'said'),
    [
        ('config.json', '{', r'config\.json is no JSON'),
        ('config.json', '[]', 'holds a list, not a dict'),
        ('model.safetensors.index.json', '', 'is no JSON'),
        ('model.safetensors.index.json', '{}', 'has no weight_map'),
        ('model.safetensors.index.json', '{"weight_map": {"a": 3}}', 'has no weight_map'),
        ('model.safetensors.index.json', '{"weight_map": {"a": ".."}}', 'outside of its folder'),
    ],
)
def test_damaged_folders(shards: Path, file: str, text: str, said: str) -> None:
    (shards / file).write_text(text)
    with pytest.raises(UserError, match=said):
        read_checkpoint(shards)


def test_views_of_one_storage(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    torch.save({'a': whole.t(), 'b': whole[1], 'c': Settings()}, tmp_path / 'views.pth')
    found = read_tensors_only(tmp_path / 'views.pth')
    assert torch.equal(found['a'], whole.t())
    assert torch.equal(found['b'], whole[1])
    assert found['c'] is None


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / 'text.pth').write_text('no checkpoint')
    (tmp_path / 'pickle.pth').write_bytes(pickle.dumps(Settings()))
    with tarfile.open(tmp_path / 'tar.pth', 'w'):
        pass
    with zipfile.ZipFile(tmp_path / 'script.pth', 'w') as archive:
        archive.writestr('script/constants.pkl', '')
    for name in ('text', 'pickle', 'tar', 'script'):
        with pytest.raises((ValueError, RuntimeError, pickle.UnpicklingError)):
            rewrite(str(tmp_path / f'{name}.pth'), str(tmp_path / 'out.pth'))
    assert not (tmp_path / 'out.pth').exists()
    with pytest.raises(UserError, match=r'tar\.pth cannot be read.*alone: .*it is a tar file'):
        read_checkpoint(tmp_path / 'tar.pth')
    torch.save({'epoch': 3, 'args': Settings()}, tmp_path / 'empty.pth')
    with pytest.raises(UserError, match=r"empty\.pth holds no weights; its keys are \['epoch'"):
        read_checkpoint(tmp_path / 'empty.pth')
    with pytest.raises(UserError, match='does not exist'):
        read_checkpoint(tmp_path / 'nothing.pth')
