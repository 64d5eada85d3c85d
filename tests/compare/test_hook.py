from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spm_mm.compare.hook import PerClassMetric, RecordHook, _plain
from spm_mm.compare.record import Record, read_json


def evaluated(samples: list[dict], classes: tuple[str, ...]) -> dict[str, float]:
    metric = PerClassMetric()
    metric.dataset_meta = dict(classes=classes)
    for sample in samples:
        metric.process(None, [sample])
    return metric.evaluate(len(samples))


def test_iou_of_a_segmentor() -> None:
    """By hand: a is met in 1 of 3 pixels, b in 2 of 4; 255 does not count, c is nowhere."""
    truth = torch.tensor([[[0, 0, 1, 1], [1, 255, 255, 255]]])
    predicted = torch.tensor([[[0, 1, 1, 1], [0, 0, 2, 1]]])
    sample = dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=predicted))
    found = evaluated([sample], ('a', 'b', 'c'))
    assert found['class/a'] == pytest.approx(100 / 3)
    assert found['class/b'] == pytest.approx(50)
    assert np.isnan(found['class/c'])
    assert _plain(found['class/c']) is None


def test_accuracy_of_a_classifier() -> None:
    pairs = [(0, 0), (0, 1), (1, 1), (1, 1)]
    samples = [dict(gt_label=torch.tensor([t]), pred_label=torch.tensor([p])) for t, p in pairs]
    assert evaluated(samples, ('a', 'b')) == {'class/a': 50.0, 'class/b': 100.0}


def test_metrics_become_plain_numbers() -> None:
    assert _plain(np.float32(0.5)) == 0.5
    assert _plain(torch.tensor([1.0, float('nan')])) == [1.0, None]
    assert _plain((1, float('inf'))) == [1, None]


def test_the_record_of_a_run(tmp_path) -> None:
    """A loss that is no number is left out; a run that goes on does so on a line of its own."""
    runner = SimpleNamespace(work_dir=tmp_path, iter=0)
    (tmp_path / 'record.jsonl').write_text('{"iter": 1, "lo')
    for loss in (torch.tensor(2.5, requires_grad=True), torch.tensor(float('nan'))):
        hook = RecordHook()
        hook.written = -1e9
        hook.after_train_iter(runner, 0, None, dict(loss=loss))
        runner.iter += 1
    hook.after_val_epoch(runner, {'mIoU': np.float32(3), 'per': torch.tensor([1.0])})
    record = Record.read(tmp_path)
    assert record.losses == {1: 2.5}
    assert record.metrics == {'mIoU': 3.0, 'per': [1.0]}


def test_batches_of_a_run(tmp_path) -> None:
    """The list goes on where a resumed run goes on, and ends with the second batch."""
    samples = [SimpleNamespace(img_path=f'images/{i}.jpg') for i in range(3)]
    seen = []
    for iteration in (0, 1, 2):
        runner = SimpleNamespace(work_dir=tmp_path, iter=iteration)
        batch = dict(inputs=[torch.full((3, 2, 2), iteration)], data_samples=[samples[iteration]])
        RecordHook().before_train_iter(runner, 0, batch)
        seen.append(read_json(tmp_path / 'batches.json'))
    both = [['0.jpg'], ['1.jpg']]
    assert [entry['images'] for entry in seen] == [both[:1], both, both]
    assert len(set(seen[1]['sha256'])) == 2
    assert seen[2] == seen[1]
