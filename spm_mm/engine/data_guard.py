import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from spm_mm.errors import UserError

__all__ = ['GuardedRunner']

PATHS = ('img_path', 'seg_map_path')


class GuardedRunner(Runner):
    """mmengine's Runner, which says which file is at fault where data cannot be used, and stops there.

    The hosts show a traceback out of a worker, or train on. The tools of the suite that run a model use
    this Runner. It looks at what the run reads anyway, when it is read:

    - a picture that cannot be decoded, and whatever else fails while a sample is prepared;
    - labels of a segmentation map that the model has no class for, and a map of another size than its
      picture;
    - a class of a classifier's folders that the model has no output for;
    - a COCO file without one annotation of any class (an error) or of one class (a warning).

    Raises:
        UserError: With the file, the field and what is allowed.
    """

    def build_dataloader(self, dataloader: Any, *args: Any, **kwargs: Any) -> DataLoader:
        # Here, not in a hook: a loop by iterations starts the workers as soon as it has the loader.
        loader = super().build_dataloader(dataloader, *args, **kwargs)
        for dataset in unwrap(loader.dataset):
            if not isinstance(dataset.pipeline, GuardedPipeline):
                check_coco(dataset, required=not getattr(dataset, 'test_mode', False))
                classes = count_classes(self.cfg.get('model') or {})
                dataset.pipeline = GuardedPipeline(dataset.pipeline, classes)
        return loader

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The checkpoint without its config: a resuming Runner would execute that as Python."""
        checkpoint = super().load_checkpoint(*args, **kwargs)
        checkpoint.get('meta', {}).pop('config', None)
        return checkpoint

    def build_val_loop(self, loop: Any) -> BaseLoop:
        """The loop of validation, its workers started.

        Forked after an iteration of several processes, beside threads that still end their exchange, a
        worker can wait for ever: CPython 3.11 takes the lock of its thread states before it renews it.
        """
        built = super().build_val_loop(loop)
        if built.dataloader.num_workers and built.dataloader.persistent_workers:
            with torch.random.fork_rng(devices=[]):
                iter(built.dataloader)
        return built


class GuardedPipeline:
    """A pipeline whose failures name the file that was read.

    Args:
        pipeline: The dataset's own.
        num_classes: Classes of the model; None does not check labels.
    """

    def __init__(self, pipeline: Any, num_classes: int | None) -> None:
        self.pipeline = pipeline
        self.num_classes = num_classes

    def __getattr__(self, name: str) -> Any:
        if name == 'pipeline':  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.pipeline, name)

    def __call__(self, data: dict[str, Any]) -> Any:
        named = ', '.join(str(data[name]) for name in PATHS if data.get(name))
        try:
            sample = self.pipeline(data)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f'{named or "a sample"} cannot be prepared; a picture that cannot be decoded, or'
                f' annotations that do not fit it: {type(error).__name__}: {error}'
            ) from error
        if sample is not None:
            self._check(sample, data, named)
        return sample

    def _check(self, sample: dict[str, Any], data: dict[str, Any], named: str) -> None:
        truth = sample.get('data_samples')
        label_map = getattr(truth, 'gt_sem_seg', None)
        if label_map is not None:
            file, size = data.get('seg_map_path', named), tuple(label_map.data.shape[-2:])
            fits = (tuple(truth.metainfo['ori_shape']), tuple(sample['inputs'].shape[-2:]))
            if size not in fits:
                raise UserError(
                    f'{file} has {size[0]} x {size[1]} pixels where its picture {named} has'
                    f' {fits[0][0]} x {fits[0][1]}'
                )
            ignored = data.get('ignore_index', 255)
            labels = label_map.data[label_map.data != ignored]
            self._check_labels(labels, f'gt_sem_seg of {file}', f' or {ignored} (ignored)')
        label = getattr(truth, 'gt_label', None)
        if label is not None:
            self._check_labels(label, f'gt_label of {named}', '')

    def _check_labels(self, labels: Any, what: str, more: str) -> None:
        if self.num_classes is None or not labels.numel():
            return
        for label in (int(labels.min()), int(labels.max())):
            if not 0 <= label < self.num_classes:
                raise UserError(
                    f'{what} has the label {label}: the model has {self.num_classes} classes, allowed'
                    f' are 0 to {self.num_classes - 1}{more}'
                )


def unwrap(dataset: Any) -> Iterator[Any]:
    """The datasets with a pipeline inside wrappers such as RepeatDataset and ConcatDataset."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        if hasattr(dataset, 'pipeline'):
            yield dataset
        return
    for part in inner:
        yield from unwrap(part)


def count_classes(model: Mapping[str, Any]) -> int | None:
    """Classes of a segmentor's or classifier's head; None for a detector, whose host maps labels."""
    for name in ('decode_head', 'head'):
        head = model.get(name)
        if isinstance(head, Mapping) and 'num_classes' in head:
            return head['num_classes']
    return None


def check_coco(dataset: Any, required: bool) -> None:
    """Say which classes a COCO file has no annotation for.

    Raises:
        UserError: If ``required`` and there is none for any class.
    """
    file = Path(str(getattr(dataset, 'ann_file', '')))
    classes = list((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())
    if file.suffix != '.json' or not classes or not file.is_file():
        return
    content = json.loads(file.read_text())
    if not isinstance(content, dict) or 'categories' not in content:
        return
    used = {annotation.get('category_id') for annotation in content.get('annotations', ())}
    seen = {category['name'] for category in content['categories'] if category['id'] in used}
    missing = [name for name in classes if name not in seen]
    if required and len(missing) == len(classes):
        raise UserError(
            f'{file} has no annotation of any of the classes {classes}; its own are'
            f' {sorted(category["name"] for category in content["categories"])}'
        )
    if missing:
        print_log(f'{file} has no annotation of {missing}', 'current', logging.WARNING)
