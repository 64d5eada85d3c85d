"""The results of a comparison, read from its folder, as a dict that JSON has."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from spm_mm.compare.plan import Plan
from spm_mm.compare.record import Cell, Record, read_json, same_start
from spm_mm.compare.statistics import Difference, mean, paired_difference, spread
from spm_mm.errors import UserError

__all__ = ['collect', 'join', 'per_class', 'summarize']

FORMAT = 1
COSTS = 'costs.json'
PREFERRED = ('coco/segm_mAP', 'coco/bbox_mAP', 'mIoU', 'accuracy/top1')
POINTS = 200
"""Of a curve of training losses; each is the mean of the iterations around it."""


def collect(plan: Plan, metric: str | None = None) -> dict[str, Any]:
    """Everything that a comparison has produced so far.

    Args:
        plan: Of the folder.
        metric: The one to compare, by the framework's name; default mIoU, AP of masks or boxes, or
            top-1 accuracy, whichever is there, else the first. Higher is taken as better.

    Raises:
        UserError: If no run has this metric.
    """
    costs = read_json(plan.folder / COSTS) or {}
    columns = []
    for variant in plan.variants:
        cells = [_cell(plan.cell(variant, seed)) for seed in plan.seeds]
        columns.append(
            {
                'label': variant.label,
                'options': variant.options,
                'changes': plan.changes.get(variant.label, {}),
                'cost': (costs.get('columns') or {}).get(variant.label),
                'cost_measured': costs.get('measured'),
                'cells': cells,
            }
        )
    environments: list[Any] = []
    for column in columns:
        for cell in column['cells']:
            if cell['environment'] and cell['environment'] not in environments:
                environments.append(cell['environment'])
    results = {
        'format': FORMAT,
        'name': plan.folder.name,
        'config': plan.config,
        'config_text': _config_text(plan),
        'commands': plan.commands,
        'keys': plan.keys,
        'varies_data': plan.varies_data,
        'seeds': plan.seeds,
        'data': _data(plan),
        'environments': environments,
        'columns': columns,
    }
    results['metric'] = _primary(results, metric)
    return results


def _cell(cell: Cell) -> dict[str, Any]:
    record, failure = Record.read(cell.folder), cell.failure
    return {
        'seed': cell.seed,
        'state': cell.state,
        'reason': failure['reason'] if failure else None,
        'iteration': record.iteration,
        'max_iters': record.start.get('max_iters'),
        'images_seen': _images_seen(record.start),
        'environment': record.start.get('environment'),
        'batches': cell.batches,
        'metrics': record.metrics,
        'validations': [[i, m] for i, m in sorted(record.validations.items())],
        'losses': thin(sorted(record.losses.items())),
        'classes': record.start.get('classes') or [],
    }


def _images_seen(start: Mapping[str, Any]) -> int | None:
    if not start:
        return None
    return start['max_iters'] * start['batch_size'] * start['world_size']


def thin(points: Sequence[tuple[int, float]]) -> list[list[float]]:
    """At most :data:`POINTS` of a curve, each the mean of equally many."""
    size = max(1, -(-len(points) // POINTS))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [[statistics.fmean(x for x, _ in g), statistics.fmean(y for _, y in g)] for g in groups]


def _config_text(plan: Plan) -> str:
    """The config of the first column, in full."""
    cell = plan.cells[0]
    return cell.config.read_text() if cell.config.exists() else ''


def _data(plan: Plan) -> dict[str, Any]:
    """The datasets that are read, without the path of this machine's folder."""
    found: dict[str, Any] = {}
    cells = [cell for cell in plan.cells if cell.config.exists()]
    if not cells:
        return found
    cfg = Config.fromfile(cells[0].config, import_custom_modules=False)
    for name in ('train_dataloader', 'val_dataloader'):
        dataset = (cfg.get(name) or {}).get('dataset') or {}
        while 'dataset' in dataset:
            dataset = dataset['dataset']
        root = dataset.get('data_root')
        found[name] = {'type': dataset.get('type'), 'folder': Path(root).name if root else None}
    records = (Record.read(cell.folder) for cell in cells)
    images = [record.start['images'] for record in records if record.start]
    if images:
        found['train_dataloader']['images'] = images[0]
    return found


def _primary(results: Mapping[str, Any], wanted: str | None) -> str | None:
    names: dict[str, None] = {}
    for column in results['columns']:
        for cell in column['cells']:
            for name, value in cell['metrics'].items():
                if isinstance(value, int | float) and not name.startswith('class/'):
                    names[name] = None
    if wanted:
        if names and wanted not in names:
            raise UserError(f'--metric {wanted} was not measured; there are {", ".join(names)}')
        return wanted
    return next((name for name in (*PREFERRED, *names) if name in names), None)


def join(all_results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One comparison of the columns of several; the first column of the first is the base.

    Raises:
        UserError: If they were compared by different metrics.
    """
    first = all_results[0]
    for other in all_results[1:]:
        if other.get('format') != FORMAT or other['metric'] != first['metric']:
            raise UserError(
                f'{other["name"]} cannot be joined with {first["name"]}: its metric is'
                f' {other["metric"]}, not {first["metric"]}'
            )
    labels = [column['label'] for results in all_results for column in results['columns']]
    columns, environments, commands = [], [], []
    for results in all_results:
        for column in results['columns']:
            label = column['label']
            if labels.count(label) > 1:
                label = f'{results["name"]}: {label}'
            columns.append({**column, 'label': label})
        environments += [one for one in results['environments'] if one not in environments]
        commands += results['commands']
    return {
        **first,
        'name': ' + '.join(results['name'] for results in all_results),
        'config': ', '.join(dict.fromkeys(results['config'] for results in all_results)),
        'keys': list(dict.fromkeys(key for results in all_results for key in results['keys'])),
        'seeds': sorted({seed for results in all_results for seed in results['seeds']}),
        'varies_data': any(results['varies_data'] for results in all_results),
        'columns': columns,
        'environments': environments,
        'commands': commands,
    }


def summarize(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each column: costs, the metric over seeds, and its difference to the first.

    Seeds whose batches were not those of the first column are left out of the difference.
    """
    base = results['columns'][0]
    rows = []
    for column in results['columns']:
        values = metric_by_seed(column, results['metric'])
        paired = {
            seed: value
            for seed, value in values.items()
            if same_batches(_seed(column, seed), _seed(base, seed), results['varies_data'])
        }
        difference: Difference | None = None
        if column is not base:
            difference = paired_difference(paired, metric_by_seed(base, results['metric']))
        cost = column['cost'] or {}
        # Seconds of different days are no pairs.
        together = column['cost_measured'] == base['cost_measured']
        base_cost = (base['cost'] or {}) if together else {}
        rows.append(
            {
                'label': column['label'],
                'params': cost.get('params'),
                'macs': cost.get('macs'),
                'train_seconds': _median(cost.get('train_seconds')),
                'train_ratio': _ratio(cost, base_cost, 'train_seconds'),
                'train_memory': cost.get('train_memory'),
                'test_seconds': _median(cost.get('test_seconds')),
                'test_ratio': _ratio(cost, base_cost, 'test_seconds'),
                'test_memory': cost.get('test_memory'),
                'mean': mean(values),
                'spread': spread(values),
                'values': values,
                'difference': difference and vars(difference) | {'verdict': difference.verdict},
                'finished': sum(cell['state'] == 'finished' for cell in column['cells']),
                'cells': len(column['cells']),
            }
        )
    return rows


def metric_by_seed(column: Mapping[str, Any], metric: str | None) -> dict[int, float]:
    """The metric of every finished run of a column."""
    return {
        cell['seed']: cell['metrics'][metric]
        for cell in column['cells']
        if cell['state'] == 'finished' and isinstance(cell['metrics'].get(metric), int | float)
    }


def _seed(column: Mapping[str, Any], seed: int) -> Mapping[str, Any] | None:
    return next((cell for cell in column['cells'] if cell['seed'] == seed), None)


def same_batches(one: Mapping | None, other: Mapping | None, images_only: bool) -> bool:
    """Whether two runs began with the same batches, and see equally many images."""
    if not one or not other or not one['batches'] or not other['batches']:
        return False
    if images_only:
        return same_start(one['batches'], other['batches'], 'images')
    same = same_start(one['batches'], other['batches'], 'sha256')
    return same and one['images_seen'] == other['images_seen']


def per_class(results: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """Per class the mean over seeds in every column, in percent: IoU, AP or accuracy; may be empty."""
    table: dict[str, list[float | None]] = {}
    names = dict.fromkeys(
        name
        for column in results['columns']
        for cell in column['cells']
        for name in cell['classes']
    )
    for name in names:
        row = []
        for column in results['columns']:
            done = [cell['metrics'] for cell in column['cells'] if cell['state'] == 'finished']
            values = [value for metrics in done if (value := _of_class(metrics, name)) is not None]
            row.append(statistics.fmean(values) if values else None)
        if any(value is not None for value in row):
            table[name] = row
    return table


def _of_class(metrics: Mapping[str, Any], name: str) -> float | None:
    if metrics.get(f'class/{name}') is not None:
        return metrics[f'class/{name}']
    value = metrics.get(f'coco/{name}_precision')
    return None if value is None or value < 0 else 100 * value


def _median(values: Sequence[float] | None) -> float | None:
    return statistics.median(values) if values else None


def _ratio(cost: Mapping, base: Mapping, key: str) -> float | None:
    """The median of the ratios round by round."""
    pairs = list(zip(cost.get(key) or (), base.get(key) or (), strict=False))
    return statistics.median(a / b for a, b in pairs) if pairs else None
