"""What a cell of a comparison writes beside its own log; its config imports this module."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from mmengine.runner import Runner

from spm_mm.compare.environment import environment
from spm_mm.compare.record import BATCHES, RECORD, read_json, write_json
from spm_mm.registry import HOOKS

__all__ = ['PerClassMetric', 'RecordHook']

HASHED_BATCHES = 2
SECONDS_BETWEEN_WRITES = 2.0


@HOOKS.register_module()
class RecordHook(Hook):
    """Writes the training loss, the validations and a hash of the first batches into the work dir.

    ``record.jsonl`` holds one line for each iteration and validation, so that curves and progress are
    the same for every framework and survive a restart; ``batches.json`` the names of the images of
    the first batches, and a hash of what the model was given in each.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.written = 0.0

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        metainfo = getattr(dataset, 'metainfo', None) or {}
        self._add(
            event='start',
            iter=runner.iter,
            max_iters=runner.max_iters,
            world_size=get_world_size(),
            batch_size=runner.train_dataloader.batch_size,
            images=len(dataset),
            classes=list(metainfo.get('classes') or ()),
            environment=environment(),
            time=time.time(),
        )
        self._write(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter >= HASHED_BATCHES or not is_main_process():
            return
        path = Path(runner.work_dir, BATCHES)
        # A run that is resumed in between goes on with the list.
        seen = read_json(path) or dict(sha256=[], images=[])
        digest = hashlib.sha256(b''.join(_parts(data_batch))).hexdigest()
        seen['sha256'][runner.iter :] = [digest]
        seen['images'][runner.iter :] = [_names(data_batch)]
        write_json(path, seen)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        loss = (outputs or {}).get('loss')
        value = None if loss is None else _plain(torch.as_tensor(loss))
        self._add(iter=runner.iter + 1, loss=value)
        if time.monotonic() - self.written > SECONDS_BETWEEN_WRITES:
            self._write(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        plain = {key: _plain(value) for key, value in (metrics or {}).items()}
        self._add(event='val', iter=runner.iter, metrics=plain)
        self._write(runner)

    def after_train(self, runner: Runner) -> None:
        self._add(event='end', iter=runner.iter, time=time.time())
        self._write(runner)

    def _add(self, **line: Any) -> None:
        self.lines.append(json.dumps(line))

    def _write(self, runner: Runner) -> None:
        text = ''.join(f'{line}\n' for line in self.lines)
        self.lines.clear()
        self.written = time.monotonic()
        if not is_main_process():
            return
        with open(Path(runner.work_dir, RECORD), 'a+') as file:
            if file.tell():
                file.seek(file.tell() - 1)
                if file.read(1) != '\n':  # a run was killed while it wrote
                    text = f'\n{text}'
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


@METRICS.register_module()
class PerClassMetric(BaseMetric):
    """What a model reaches in each class: IoU of a segmentor, accuracy of a classifier, in percent.

    Args:
        ignore_index: Label of pixels that do not count.
    """

    default_prefix = 'class'

    def __init__(self, ignore_index: int = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        count = len(self.dataset_meta['classes'])
        for sample in data_samples:
            self.dense = 'pred_sem_seg' in sample
            if self.dense:
                pair = (sample[name]['data'] for name in ('gt_sem_seg', 'pred_sem_seg'))
            else:
                pair = (sample['gt_label'], sample['pred_label'])
            truth, predicted = (torch.as_tensor(one).flatten().long().cpu() for one in pair)
            known = truth != self.ignore_index
            truth, predicted = truth[known], predicted[known]
            parts = (truth[truth == predicted], truth, predicted)
            self.results.append(torch.stack([part.bincount(minlength=count) for part in parts]))

    def compute_metrics(self, results: list) -> dict[str, float]:
        hits, truth, predicted = sum(results).double().numpy()
        whole = truth + predicted - hits if self.dense else truth
        shares = np.divide(100 * hits, whole, out=np.full(len(hits), np.nan), where=whole > 0)
        return dict(zip(self.dataset_meta['classes'], shares.tolist(), strict=True))


def _parts(batch: Any) -> Iterator[bytes]:
    """The bytes of all images in a batch, in order."""
    inputs = batch['inputs'] if isinstance(batch, dict) else batch[0]
    for image in inputs:
        yield str(tuple(image.shape)).encode()
        yield image.detach().cpu().contiguous().numpy().tobytes()


def _names(batch: Any) -> list[str]:
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    return [Path(getattr(sample, 'img_path', None) or '?').name for sample in samples or ()]


def _plain(value: Any) -> Any:
    """A number or a list of numbers that JSON has."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
