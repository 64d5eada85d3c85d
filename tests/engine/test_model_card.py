import hashlib
from pathlib import Path

import pytest
from mmengine.logging import MessageHub

from spm_mm.engine.model_card import logged_figures, model_card, write_model_card

META = dict(
    experiment_name='fpn_pvt_tiny_ade20k', epoch=3, iter=40000, seed=7, mmengine_version='0.10.7',
    time='20261126_010203', dataset_meta=dict(classes=('sky', 'sea')),
    cfg="dataset = dict(type='ADE20KDataset', data_root='data/ade')\nlr = 1e-4\n",
)  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / 'weights-12345678.pth'
    path.write_bytes(b'weights')
    return path


def test_card_says_what_the_file_is(checkpoint: Path) -> None:
    card = model_card(checkpoint, META, 'averaged weights', 'publish.py a b', {'mIoU': 41.5})
    assert card.startswith('# weights-12345678.pth\n')
    for line in (
        '| Contents | averaged weights |',
        '| Size | 7 bytes |',
        f'| SHA-256 | `{hashlib.sha256(b"weights").hexdigest()}` |',
        '| Config | fpn_pvt_tiny_ade20k |',
        '| Data | ADE20KDataset, `data/ade` |',
        '| Classes | 2 |',
        '| Trained until | epoch 3, iter 40000 |',
        '| Seed | 7 |',
        '| mmengine of training | 0.10.7 |',
        '| Command | `publish.py a b` |',
        '| mIoU | 41.5 |',
    ):
        assert line in card.splitlines()
    assert 'lr = 1e-4' in card
    assert ', torch ' in card


def test_what_is_not_known_is_said(checkpoint: Path) -> None:
    card = model_card(checkpoint, {}, 'raw weights', 'publish.py a b')
    assert '| Seed | unknown |' in card
    assert 'The run logged no validation.' in card
    assert '## Config' not in card


def test_figures_are_those_of_the_last_validation() -> None:
    hub = MessageHub.get_instance('test_model_card')
    for value in (40.0, 41.5):
        hub.update_scalar('val/mIoU', value)
    hub.update_scalar('train/loss', 1.0)
    assert logged_figures({'message_hub': hub.state_dict()}) == {'mIoU': 41.5}
    assert logged_figures({'state_dict': {}}) == {}


def test_nobodys_page_is_overwritten(checkpoint: Path) -> None:
    path = write_model_card(checkpoint, META, 'raw weights', 'publish.py a b')
    assert path.name == 'README.md'
    assert write_model_card(checkpoint, META, 'averaged weights', 'publish.py a b') == path
    assert 'averaged weights' in path.read_text()
    path.write_text('# Our models\n')
    other = write_model_card(checkpoint, META, 'raw weights', 'publish.py a b')
    assert other.name == 'weights-12345678.pth.md'
    assert path.read_text() == '# Our models\n'
    assert not list(checkpoint.parent.glob('*.part'))
