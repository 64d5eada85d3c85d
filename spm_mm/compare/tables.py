"""The tables of a comparison: rows of text, for the terminal, Markdown and CSV alike."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table as RichTable

from spm_mm.compare.results import per_class, summarize
from spm_mm.compare.statistics import METHOD

__all__ = ['Table', 'class_table', 'facts', 'markdown', 'summary_table']

NONE = '-'


@dataclass(frozen=True)
class Table:
    """A header and rows of text."""

    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [self.header, ['---'] * len(self.header), *self.rows]
        return '\n'.join(
            f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in line)} |' for line in lines
        )

    def transposed(self) -> 'Table':
        header, *rows = zip(self.header, *self.rows, strict=True)
        return Table(list(header), [list(row) for row in rows])

    def csv(self) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator='\n').writerows([self.header, *self.rows])
        return out.getvalue()

    def rich(self) -> RichTable:
        table = RichTable(*self.header)
        for row in self.rows:
            table.add_row(*(cell.replace('[', r'\[') for cell in row))
        return table


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    return NONE if value is None else f'{value:{"+" if signed else ""}.{digits}f}'


def amount(value: float | None, factor: float, digits: int = 2) -> str:
    """A cost in another unit; small ones with two significant digits."""
    if value is None:
        return NONE
    scaled = value * factor
    return f'{scaled:.2g}' if 0 < scaled < 0.1 else f'{scaled:.{digits}f}'


def digits_of(values: Sequence[float | None]) -> int:
    """Decimals of a metric: 2 for percent, 4 for fractions of 1."""
    return 4 if all(value is None or abs(value) <= 1 for value in values) else 2


def summary_table(results: Mapping[str, Any]) -> Table:
    """A row for each column of the comparison."""
    rows = summarize(results)
    digits = digits_of([row['mean'] for row in rows])
    metric = results['metric'] or 'metric'
    header = ['column', 'params (M)', 'MACs (G)']
    timed = any(row['train_seconds'] for row in rows)
    if timed:
        header += [
            'training step (ms)', 'training step, relative', 'training memory (GiB)',
            'inference (ms)', 'inference, relative', 'inference memory (GiB)',
        ]  # fmt: skip
    header += [f'{metric}', 'spread', 'seeds', 'difference', '95 % interval', 'told apart']
    return Table(header, [_summary_row(row, timed, digits) for row in rows])


def _summary_row(row: Mapping[str, Any], timed: bool, digits: int) -> list[str]:
    line = [row['label'], amount(row['params'], 1e-6), amount(row['macs'], 1e-9)]
    if timed:
        for kind in ('train', 'test'):
            line += [
                amount(row[f'{kind}_seconds'], 1e3, 1),
                number(row[f'{kind}_ratio']),
                amount(row[f'{kind}_memory'], 2**-30),
            ]
    line += [number(row['mean'], digits), number(row['spread'], digits)]
    line += [f'{row["finished"]} of {row["cells"]}']
    difference = row['difference']
    if difference is None:
        return [*line, NONE, NONE, NONE]
    interval = NONE
    if difference['low'] is not None:
        low, high = (number(difference[side], digits, True) for side in ('low', 'high'))
        interval = f'{low} to {high}'
    verdict = 'no' if difference['verdict'] == 'not told apart' else difference['verdict']
    return [*line, number(difference['mean'], digits, True), interval, verdict]


def class_table(results: Mapping[str, Any]) -> Table | None:
    """Means over seeds per class, in percent; None where the framework gives none."""
    table = per_class(results)
    if not table:
        return None
    header = ['class', *(column['label'] for column in results['columns'])]
    return Table(header, [[name, *(number(v, 1) for v in row)] for name, row in table.items()])


def unfinished_table(results: Mapping[str, Any]) -> Table | None:
    """The cells that are not finished, and why; None if all are."""
    rows = [
        [
            column['label'],
            str(cell['seed']),
            cell['state'],
            f'{cell["iteration"]} of {cell["max_iters"] or "?"}',
            cell['reason'] or NONE,
        ]
        for column in results['columns']
        for cell in column['cells']
        if cell['state'] != 'finished'
    ]
    return Table(['column', 'seed', 'state', 'iterations', 'reason'], rows) if rows else None


def difference_table(results: Mapping[str, Any]) -> Table:
    """What every column changes in the config of the first."""
    rows = [
        [column['label'], key, str(old), str(new)]
        for column in results['columns']
        for key, (old, new) in column['changes'].items()
    ]
    return Table(['column', 'key', 'in the first column', 'here'], rows)


def facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a result depends on beside what is varied, as pairs of a name and a text."""
    lines = [('config', results['config'])]
    lines += [('command', command) for command in results['commands']]
    for name, data in results['data'].items():
        count = f', {data["images"]} images' if data.get('images') else ''
        lines.append((name, f'{data["type"]} in {data["folder"] or "its default folder"}{count}'))
    seen = {
        cell['images_seen']
        for column in results['columns']
        for cell in column['cells']
        if cell['images_seen']
    }
    if seen:
        text = ', '.join(f'{count:,}' for count in sorted(seen))
        more = '; the columns differ in it' if len(seen) > 1 else ', the same for all'
        lines.append(('images seen in training', f'{text} a run{more}'))
    hashes = {
        cell['seed']: cell['batches']['sha256'][0][:12]
        for column in results['columns']
        for cell in column['cells']
        if cell['batches']
    }
    if hashes and not results['varies_data']:
        text = ', '.join(f'seed {seed} {short}' for seed, short in sorted(hashes.items()))
        lines.append(('first batch (SHA-256)', text))
    for column in results['columns']:
        cost = column['cost'] or {}
        if cost.get('train_batch'):
            batches = f'batches of {cost["train_batch"]} to train, {cost["test_batch"]} to test'
            lines.append(('costs measured', f'{column["cost_measured"]}, {batches}'))
    for one in results['environments']:
        gpus = ', '.join(one['gpus']) or 'no GPU'
        lines.append(
            (
                'machine',
                f'{one["processor"]}, {one["cores"]} cores, {one["memory_gib"]} GiB, {gpus}',
            )
        )
        lines.append(('versions', ', '.join(f'{k} {v}' for k, v in one['versions'].items())))
        lines.append(('commit', one['commit'] or 'not in a checkout'))
    if len(results['environments']) > 1:
        lines.append(('note', 'the runs come from different machines, versions or commits'))
    return list(dict.fromkeys(lines))


def markdown(results: Mapping[str, Any]) -> str:
    """The whole report as text."""
    sections = [
        f'# Comparison {results["name"]}',
        summary_table(results).transposed().markdown(),
        METHOD,
    ]
    if classes := class_table(results):
        sections += ['## Per class, mean over seeds', classes.markdown()]
    if unfinished := unfinished_table(results):
        sections += ['## Runs that are not finished', unfinished.markdown()]
    changes = difference_table(results)
    if changes.rows:
        sections += ['## What differs', changes.markdown()]
    sections += ['## Conditions', '\n'.join(f'- {name}: `{text}`' for name, text in facts(results))]
    return '\n\n'.join(sections) + '\n'
