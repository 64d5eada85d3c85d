import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from spm_mm.registry import HOOKS

__all__ = ['GroundTruthHook', 'count_annotations']


@HOOKS.register_module()
class GroundTruthHook(Hook):
    """Says how much ground truth reaches the model, and warns where a whole epoch had none.

    The frameworks train on without it: string image ids, boxes that are NaN, ``iscrowd`` everywhere,
    or masks of the ignored label alone. Usable annotations are boxes of finite, positive size that are
    not ignored, labelled pixels of segmentation maps, and labels of classifiers. The first batch is
    logged at once. Data without such fields, as of self-supervised methods, is not counted.
    """

    def __init__(self) -> None:
        self._count: int | None = None
        self._images = 0
        self._ignored = 255

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._ignored = getattr(getattr(model, 'decode_head', None), 'ignore_index', 255)
        self._count, self._images = None, 0

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None
    ) -> None:
        first = self._images == 0 and self._count is None
        for sample in _samples(data_batch):
            usable = count_annotations(sample, self._ignored)
            if usable is not None:
                self._count = (self._count or 0) + usable
                self._images += 1
        if first and self._count is not None:
            runner.logger.info(
                f'The first batch has {self._images} images with {self._count} usable annotations'
                ' (boxes, labelled pixels or labels).'
            )
        try:
            iterations = len(runner.train_dataloader)
        except TypeError:  # data without an end
            return
        if (runner.iter + 1) % max(1, iterations) == 0:
            total = torch.tensor([float(self._count or 0), float(self._images)])
            all_reduce(total)
            if total[0] == 0 < total[1]:
                runner.logger.log(
                    logging.WARNING,
                    f'NO GROUND TRUTH in the last {int(total[1])} training images (an epoch): check the'
                    ' annotation file, image ids, classes and ignored labels.',
                )
            self._count, self._images = 0, 0


def _samples(batch: Any) -> Iterator[BaseDataElement]:
    """The data samples in a batch, however it is nested."""
    if isinstance(batch, BaseDataElement):
        yield batch
    elif isinstance(batch, Mapping):
        yield from itertools.chain.from_iterable(map(_samples, batch.values()))
    elif isinstance(batch, list | tuple):
        yield from itertools.chain.from_iterable(map(_samples, batch))


def count_annotations(sample: BaseDataElement, ignored: int) -> int | None:
    """Usable annotations of a sample; None if it has no field for ground truth."""
    if 'gt_instances' in sample:
        instances = sample.gt_instances
        if 'bboxes' not in instances:
            return len(instances)
        boxes = torch.as_tensor(getattr(instances.bboxes, 'tensor', instances.bboxes)).float()
        if boxes.ndim != 2 or boxes.shape[1] != 4:  # rotated boxes, or others
            return int(torch.isfinite(boxes).flatten(1).all(1).sum()) if boxes.numel() else 0
        sizes = boxes[:, 2:] - boxes[:, :2]
        return int((torch.isfinite(boxes).all(1) & (sizes > 0).all(1)).sum())
    if 'gt_sem_seg' in sample:
        return int((sample.gt_sem_seg.data != ignored).sum())
    if 'gt_label' in sample:
        return sample.gt_label.numel()
    return None
