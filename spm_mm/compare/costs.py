"""What the columns of a comparison cost, measured side by side in one process."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from spm_mm.benchmark.measure import Plan, alternate, peak_memory
from spm_mm.compare.schedule import training_length, validations
from spm_mm.engine import default_shape, measure
from spm_mm.errors import UserError

__all__ = ['Cost', 'estimated_hours', 'fitting_length', 'measure_costs', 'stamp']


@dataclass(frozen=True)
class Cost:
    """What a column costs. Seconds are those of all timed runs, memory the peak in bytes.

    ``macs`` are those of one image at ``shape``; a training step is that of the config's batch on its
    own images, with the optimizer; inference is one batch of the validation data. Memory contains
    weights and, for training, gradients and the optimizer's state.
    """

    params: int
    macs: int | None
    shape: tuple[int, int] | None
    train_images: int = 0
    train_batch: int = 0
    train_seconds: list[float] = field(default_factory=list)
    train_memory: int | None = None
    test_images: int = 0
    test_batch: int = 0
    test_seconds: list[float] = field(default_factory=list)
    test_memory: int | None = None


def measure_costs(configs: Mapping[str, Config], repeat: int = 7) -> dict[str, Cost]:
    """Measure every config; with ``repeat`` 0 count parameters and multiply-accumulates alone.

    Each round runs all of them, so that a machine that gets slower does so for all.

    Raises:
        UserError: If a model cannot be built, or its data is not there.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    costs = {label: _count(cfg) for label, cfg in configs.items()}
    if not repeat:
        return costs
    steps = {label: _Steps(cfg, device) for label, cfg in configs.items()}
    plan = Plan(repeat=repeat, device=device)
    for kind in ('train', 'test'):
        runs = {label: getattr(step, kind) for label, step in steps.items()}
        seconds = alternate([*runs.values()], plan)
        for (label, run), taken in zip(runs.items(), seconds, strict=True):
            measured = {
                'seconds': taken,
                'memory': steps[label].fixed(kind) + peak_memory(run, device),
                'images': steps[label].images[kind],
                'batch': len(steps[label].batches[kind]['inputs']),
            }
            named = {f'{kind}_{what}': value for what, value in measured.items()}
            costs[label] = replace(costs[label], **named)
    del steps, runs, run
    if device == 'cuda':
        torch.cuda.empty_cache()  # the cells need it
    return costs


def _count(cfg: Config) -> Cost:
    shape = default_shape(cfg)
    try:
        counted = measure(cfg, shape)
    except NotImplementedError:  # an operator of the framework that has no shapes alone
        return Cost(_size(MODELS.build(cfg.model)), None, None)
    return Cost(counted.total_params, counted.total_macs, shape)


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class _Steps:
    """A model's training step and inference, each on the first batch of the config's data."""

    def __init__(self, cfg: Config, device: str) -> None:
        scope = cfg.get('default_scope', 'spm_mm')
        init_default_scope(scope)
        torch.manual_seed(0)
        self.model = revert_sync_batchnorm(MODELS.build(cfg.model)).to(device)
        self.optimizer = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.batches, self.images = {}, {}
        for kind, name in (('train', 'train_dataloader'), ('test', 'val_dataloader')):
            options = {**cfg[name], 'num_workers': 0, 'persistent_workers': False}
            options.pop('prefetch_factor', None)
            if scope == 'mmpretrain':
                options.setdefault('collate_fn', dict(type='default_collate'))
            loader = Runner.build_dataloader(options, seed=0)
            self.batches[kind] = next(iter(loader))
            self.images[kind] = len(loader.dataset)

    def train(self) -> None:
        self.model.train()
        self.model.train_step(self.batches['train'], optim_wrapper=self.optimizer)

    def test(self) -> None:
        self.model.eval()
        with torch.no_grad():
            self.model.test_step(self.batches['test'])

    def fixed(self, kind: str) -> int:
        """Bytes that stay allocated between the steps: weights, and the optimizer's state."""
        tensors = [*self.model.state_dict().values()]
        if kind == 'train':
            for state in self.optimizer.optimizer.state.values():
                tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def estimated_hours(costs: Sequence[Cost], configs: Sequence[Config], seeds: int) -> float:
    """Hours that all cells take one after another, without the loading of data."""
    training, validation = _seconds(costs, configs)
    length = training_length(configs[0])[0]
    return seeds * (length * training + validation) / 3600


def fitting_length(
    costs: Sequence[Cost], configs: Sequence[Config], seeds: int, hours: float
) -> int:
    """Iterations or epochs, whichever the configs count, that fit ``hours`` for all cells.

    The validations are as many as before. Without the loading of data.

    Raises:
        UserError: If not one fits.
    """
    training, validation = _seconds(costs, configs)
    length = int((hours * 3600 / seeds - validation) / training)
    if length < 1:
        least = seeds * (training + validation) / 3600
        unit = 'epoch' if training_length(configs[0])[1] else 'iteration'
        raise UserError(
            f'--hours {hours:g} is too short: one {unit} of all cells takes {least:.2g}'
        )
    return length


def _seconds(costs: Sequence[Cost], configs: Sequence[Config]) -> tuple[float, float]:
    """Seconds of one unit of training and of all validations, for one seed of all columns."""
    training = validation = 0.0
    for cost, cfg in zip(costs, configs, strict=True):
        step = statistics.median(cost.train_seconds)
        per_image = statistics.median(cost.test_seconds) / cost.test_batch
        _, by_epoch = training_length(cfg)
        training += step * (max(1, cost.train_images // cost.train_batch) if by_epoch else 1)
        validation += validations(cfg) * cost.test_images * per_image
    return training, validation


def stamp() -> str:
    """Now, as it stands beside a measurement."""
    return time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())
