"""A model, data and a metric of one number each, for what runs around them."""

import time
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn
from torch.utils.data import Dataset


@MODELS.register_module()
class Toy(BaseModel):
    """One weight. ``nan_from`` makes its losses NaN from that step on; ``pause`` is in seconds."""

    def __init__(self, nan_from: int | None = None, pause: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.nan_from, self.pause, self.steps = nan_from, pause, 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.layer(inputs.float())
        if mode != 'loss':
            return list(out)
        time.sleep(self.pause)
        self.steps += 1
        factor = float('nan') if self.steps == self.nan_from else 1.0
        if self.nan_from is not None and self.steps > self.nan_from:
            factor = float('nan')
        return dict(loss_toy=(out.mean() - 1) ** 2 * factor)


@DATASETS.register_module()
class ToyData(Dataset):
    """Eight numbers; with ``labels`` True or False each has a box of size 1 or 0."""

    def __init__(self, labels: bool | None = None) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> dict:
        data = dict(inputs=torch.tensor([float(i)]))
        if self.labels is not None:
            box = torch.tensor([[0.0, 0.0, 1.0, 1.0]]) * self.labels
            data['data_samples'] = BaseDataElement(gt_instances=InstanceData(bboxes=box))
        return data


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Counts the results; the first time this takes the first process ``pause`` seconds."""

    def __init__(self, pause: float = 0.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.pause = pause

    def process(self, data_batch, data_samples) -> None:
        self.results += [float(out) for out in data_samples]

    def compute_metrics(self, results: list) -> dict:
        assert get_rank() == 0
        time.sleep(self.pause)
        self.pause = 0.0
        return dict(count=len(results))


CONFIG = """
custom_imports = dict(imports=['tests.engine.toy'])
default_scope = 'mmengine'
model = dict(type='Toy')
loader = dict(
    batch_size=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ToyData'),
    collate_fn=dict(type='default_collate'),
)
train_dataloader = val_dataloader = test_dataloader = loader
train_cfg = dict(by_epoch=False, max_iters=4, val_interval=2)
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = dict(type='ToyMetric')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False),
    logger=dict(type='LoggerHook', interval=1),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
"""


def write_config(path: Path, **settings: object) -> Path:
    """Write the toy's config; ``settings`` replace or add top-level keys."""
    lines = [f'{key} = {value!r}' for key, value in settings.items()]
    path.write_text(CONFIG + '\n'.join(lines) + '\n')
    return path
