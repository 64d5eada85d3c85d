"""The folder of a comparison: its plan, and the config of every cell."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from spm_mm.compare.grid import Variant, cell_config, check_differences, differences
from spm_mm.compare.record import Cell, read_json, write_json, write_text
from spm_mm.compare.schedule import keep_checkpoints
from spm_mm.errors import UserError

__all__ = ['PLAN', 'Plan', 'prepare']

PLAN = 'plan.json'
DATA_KEYS = ('train_dataloader', 'train_pipeline', 'train_dataset')


@dataclass
class Plan:
    """What a folder compares. Called again with more columns or seeds, it grows.

    ``length`` is the number of iterations or epochs that ``--hours`` picked, None for the config's.
    """

    folder: Path
    config: str
    variants: list[Variant] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    length: int | None = None

    @classmethod
    def read(cls, folder: Path) -> 'Plan':
        """Read the plan of a folder.

        Raises:
            UserError: If the folder holds no comparison.
        """
        content = read_json(folder / PLAN)
        if content is None:
            raise UserError(f'{folder} holds no comparison ({PLAN} is missing)')
        content['variants'] = [Variant(**variant) for variant in content['variants']]
        return cls(folder, **content)

    def write(self) -> None:
        content = {key: value for key, value in vars(self).items() if key != 'folder'}
        content['variants'] = [vars(variant) for variant in self.variants]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / PLAN, content)

    @property
    def keys(self) -> list[str]:
        """The keys that are varied."""
        return list(dict.fromkeys(key for variant in self.variants for key in variant.options))

    @property
    def varies_data(self) -> bool:
        """Whether what is varied changes what the models are given in training."""
        return any(key.split('.')[0] in DATA_KEYS for key in self.keys)

    @property
    def cells(self) -> list[Cell]:
        """All cells, seed by seed, so that every column has its first run early."""
        return [self.cell(variant, seed) for seed in self.seeds for variant in self.variants]

    def cell(self, variant: Variant, seed: int) -> Cell:
        name = f'{variant.slug}_seed{seed}'
        config = self.folder / 'configs' / f'{name}.py'
        return Cell(variant.label, seed, self.folder / 'cells' / name, config)

    def add(
        self,
        base: Config,
        variants: Sequence[Variant],
        seeds: Sequence[int],
        command: Sequence[str],
    ) -> None:
        """Add columns and seeds and write the configs of their cells.

        Args:
            base: The config that is varied, as it was read.
            variants: Columns; the first of the plan is what the others are compared with.
            seeds: Seeds.
            command: The command line, for the report.

        Raises:
            UserError: If a cell would differ in more than what is varied, or from what an earlier call
                made of it; nothing is written then.
        """
        old = {variant.label: variant for variant in self.variants}
        self.variants += [variant for variant in variants if variant.label not in old]
        self.seeds += [seed for seed in seeds if seed not in self.seeds]
        configs = {v.label: prepare(cell_config(base, v, self.seeds[0])) for v in self.variants}
        changes = check_differences(self.variants, [*configs.values()])
        self.changes = {
            variant.label: {key: list(pair) for key, pair in change.items()}
            for variant, change in zip(self.variants, changes, strict=True)
        }
        missing = []
        for variant in self.variants:
            for seed in self.seeds:
                cell, cfg = self.cell(variant, seed), configs[variant.label]
                cfg.randomness.seed = seed
                if cell.config.exists():
                    _check_unchanged(cell, cfg)
                else:
                    missing.append((cell.config, cfg.pretty_text))
        text = shlex.join(command)
        if text not in self.commands:
            self.commands.append(text)
        (self.folder / 'configs').mkdir(parents=True, exist_ok=True)
        for path, text in missing:
            write_text(path, text)
        self.write()


def _check_unchanged(cell: Cell, cfg: Config) -> None:
    changed = differences(Config.fromfile(cell.config).to_dict(), cfg.to_dict())
    if changed:
        key, (old, new) = next(iter(changed.items()))
        raise UserError(
            f'{cell.config} was made with {key}={old!r}, and is now to have {new!r}: name another'
            ' folder by --work-dir, or remove this one'
        )


def prepare(cfg: Config) -> Config:
    """Let a cell's config write its record, its figures per class, and checkpoints often enough.

    Args:
        cfg: Config of any of the three frameworks; it is changed and returned.
    """
    imports = dict(cfg.get('custom_imports') or dict(imports=[], allow_failed_imports=False))
    imports['imports'] = [*_listed(imports['imports']), 'spm_mm.compare.hook']
    cfg.custom_imports = imports
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='spm_mm.RecordHook')]
    for name in ('val_evaluator', 'test_evaluator'):
        if cfg.get(name):
            cfg[name] = _per_class(cfg[name])
    for name in ('work_dir', 'resume'):
        cfg.pop(name, None)
    keep_checkpoints(cfg)
    return cfg


def _per_class(evaluator: Any) -> Any:
    metrics = [dict(metric) for metric in _listed(evaluator)]
    added = []
    for metric in metrics:
        kind = str(metric.get('type', '')).rpartition('.')[2]
        if kind == 'CocoMetric':
            metric.setdefault('classwise', True)
        elif kind == 'IoUMetric' and not metric.get('format_only'):
            added.append(dict(type='PerClassMetric', ignore_index=metric.get('ignore_index', 255)))
        elif kind == 'Accuracy':
            added.append(dict(type='PerClassMetric'))
    return metrics + added[:1]


def _listed(value: Any) -> list:
    return list(value) if isinstance(value, list | tuple) else [value]
