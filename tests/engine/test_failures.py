"""The frameworks' errors stay, with the file and the key in front."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.structures import PixelData

from spm_mm.engine import explained, name_files


def test_annotation_file_that_cannot_be_read(tmp_path, capsys) -> None:
    """Its own reader says the line and column, and not the file."""
    (tmp_path / 'coco.json').write_text('{"images": [')
    dataset = dict(type='mmdet.CocoDataset', data_root=str(tmp_path), ann_file='coco.json')
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)), filename=None)
    with pytest.raises(json.JSONDecodeError), explained(cfg, ('train_dataloader',)):
        DATASETS.build(cfg.train_dataloader.dataset)
    error = capsys.readouterr().err
    assert f'train_dataloader.dataset (data_root={tmp_path}, ann_file=coco.json)' in error
    assert 'JSONDecodeError: Expecting value: line 1 column 13' in error


class Data(BaseDataset):
    """Pictures that are named and not there."""

    def load_data_list(self) -> list[dict]:
        return [dict(img_path='pictures/a.jpg', seg_map_path='maps/a.png')]


def test_sample_that_cannot_be_prepared(monkeypatch) -> None:
    def broken(data):
        raise AttributeError('no picture')

    said = []
    monkeypatch.setattr('spm_mm.engine.failures.print_log', lambda line, *_: said.append(line))
    name_files()
    name_files()  # once is enough
    for mode in (dict(test_mode=True), {}):
        said.clear()
        with pytest.raises(AttributeError, match=r'^no picture$'):
            Data(pipeline=[broken], **mode)[0]
        (line,) = said
        assert 'img_path=pictures/a.jpg, seg_map_path=maps/a.png' in line
        assert 'AttributeError: no picture' in line


def test_batch_is_named(capsys) -> None:
    """An RGB mask: MMSegmentation takes it for the labels of one picture, and the loss fails."""
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=dict(img_path='a.jpg', seg_map_path='a.png'))
    sample.gt_sem_seg = PixelData(data=torch.full((64, 48, 3), 7))

    def run_iter(data_batch):
        raise IndexError('Target 7 is out of bounds.')

    cfg = Config(dict(model=dict()), filename=None)
    with pytest.raises(IndexError), explained(cfg, ()):
        run_iter(dict(inputs=torch.zeros(1), data_samples=[sample]))
    error = capsys.readouterr().err
    assert 'in a batch of a.jpg a.png (gt_sem_seg of shape 64 x 48 x 3, values 7 to 7)' in error
    assert 'Target 7 is out of bounds' in error


def test_advice_for_one_small_picture(capsys) -> None:
    norm = torch.nn.BatchNorm2d(2)
    cfg = Config(dict(), filename=None)
    with pytest.raises(ValueError, match='more than 1 value'), explained(cfg, ()):
        norm(torch.ones(1, 2, 1, 1))
    assert 'train with larger pictures or with more than one in a batch' in capsys.readouterr().err


def test_an_explanation_never_hides_the_error(capsys) -> None:
    class Odd(dict):
        def items(self):
            raise RuntimeError('cannot be compared')

    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='X'))), filename=None)
    cfg._cfg_dict['odd'] = Odd(type='Nowhere')
    with pytest.raises(KeyError, match='Nowhere'), explained(cfg, ('train_dataloader',)):
        DATASETS.build(dict(type='Nowhere'))
    assert "KeyError: 'Nowhere is not in the" in capsys.readouterr().err
