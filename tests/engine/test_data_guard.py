import json
import pickle
from types import SimpleNamespace

import pytest
import torch

from spm_mm.engine.data_guard import GuardedPipeline, check_coco, count_classes, unwrap
from spm_mm.errors import UserError

DATA = {'img_path': 'a.jpg', 'seg_map_path': 'a.png'}


class Labels:
    """Stands for PixelData."""

    def __init__(self, data):
        self.data = data


def segmentation(labels: torch.Tensor, size=(4, 6)) -> dict:
    truth = SimpleNamespace(gt_sem_seg=Labels(labels), metainfo={'ori_shape': size})
    return {'inputs': torch.zeros(3, *size), 'data_samples': truth}


def test_failure_names_the_file() -> None:
    def broken(data):
        raise AttributeError('NoneType')

    with pytest.raises(UserError, match=r'a\.jpg, a\.png cannot be prepared.*NoneType'):
        GuardedPipeline(broken, 3)(dict(DATA))


def test_segmentation_labels_and_sizes() -> None:
    good = segmentation(torch.tensor([0, 2, 255] * 8).view(1, 4, 6))
    guarded = GuardedPipeline(lambda data: good, 3)
    assert guarded(dict(DATA)) is good
    bad = segmentation(torch.tensor([0, 3, 255] * 8).view(1, 4, 6))
    with pytest.raises(UserError, match=r'a\.png has the label 3.*allowed are 0 to 2 or 255'):
        GuardedPipeline(lambda data: bad, 3)(dict(DATA))
    small = segmentation(torch.zeros(1, 4, 5))
    with pytest.raises(UserError, match=r'a\.png has 4 x 5 pixels where its picture a\.jpg'):
        GuardedPipeline(lambda data: small, 3)(dict(DATA))


def test_classification_labels() -> None:
    sample = {'data_samples': SimpleNamespace(gt_label=torch.tensor([5]))}
    with pytest.raises(UserError, match=r'gt_label of a\.jpg has the label 5: the model has 5'):
        GuardedPipeline(lambda data: sample, 5)({'img_path': 'a.jpg'})
    assert GuardedPipeline(lambda data: sample, 6)({'img_path': 'a.jpg'}) is sample
    assert GuardedPipeline(lambda data: None, 6)({'img_path': 'a.jpg'}) is None


def test_pipeline_stays_what_it_was() -> None:
    from mmengine.dataset import Compose

    guarded = pickle.loads(pickle.dumps(GuardedPipeline(Compose([]), 3)))  # noqa: S301
    assert guarded.transforms == []


def test_wrappers_are_opened() -> None:
    leaf = SimpleNamespace(pipeline=None)
    wrapped = SimpleNamespace(
        dataset=SimpleNamespace(datasets=[leaf, SimpleNamespace(dataset=leaf)])
    )
    assert list(unwrap(wrapped)) == [leaf, leaf]
    assert count_classes({'head': {'num_classes': 7}}) == 7
    assert count_classes({'roi_head': {}}) is None


def test_coco_file_without_annotations(tmp_path) -> None:
    file = tmp_path / 'train.json'
    names = ('date', 'fig')
    categories = [{'id': i, 'name': name} for i, name in enumerate(names)]
    dataset = SimpleNamespace(ann_file=str(file), metainfo={'classes': names})
    file.write_text(json.dumps({'categories': categories, 'annotations': [{'category_id': 1}]}))
    check_coco(dataset, required=True)
    file.write_text(json.dumps({'categories': categories, 'annotations': []}))
    check_coco(dataset, required=False)
    with pytest.raises(UserError, match=r"train\.json has no annotation of any.*'date', 'fig'"):
        check_coco(dataset, required=True)
