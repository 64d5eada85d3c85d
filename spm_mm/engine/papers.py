"""The papers' figures, from the one table of the project, ``configs/papers.yaml``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from spm_mm.errors import UserError

__all__ = ['Exceptional', 'Paper', 'Row', 'decimals', 'load_papers']

METRICS = (
    'top1', 'AP_b', 'AP_b50', 'AP_b75', 'AP_b_small', 'AP_b_medium', 'AP_b_large', 'AP_m', 'AP_m50',
    'AP_m75', 'mIoU', 'mIoU_ms', 'latency_ms',
)  # fmt: skip
ROW_KEYS = {
    'config', 'name', 'params_M', 'flops_G', 'flops_input', 'counter', 'top1_derived', 'note', *METRICS
}  # fmt: skip
EXCEPTION_KEYS = {
    'table', 'configs', 'figure', 'why', 'counter', 'flops_input', 'options', 'without', 'rounding',
    'rounded_from', 'misprint_of', 'plus', 'unexplained',
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of a printed table; ``figures`` holds ``params_M`` and ``flops_G`` where printed.

    A ``peer`` is another model, which the paper quotes; its ``config`` is empty where there is none.
    """

    paper: str
    table: str
    config: str
    name: str
    figures: dict[str, float]
    metrics: dict[str, float]
    counter: str | None = None
    flops_input: tuple[int, int] | None = None
    note: str = ''
    peer: bool = False

    @property
    def key(self) -> str:
        """PAPER.TABLE, as the exceptions name it."""
        return f'{self.paper}.{self.table}'


@dataclass(frozen=True)
class Exceptional:
    """A printed figure that the plain count does not give, and what gives it."""

    figure: str
    why: str
    counter: str | None = None
    flops_input: tuple[int, int] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    rounding: str = 'nearest'
    rounded_from: float | None = None
    misprint_of: float | None = None
    plus: int = 0
    unexplained: float | None = None


@dataclass(frozen=True)
class Paper:
    """What the metafiles say of a paper."""

    name: str
    title: str
    code: str


def load_papers(
    path: Path,
) -> tuple[dict[str, Paper], list[Row], dict[tuple[str, str, str], Exceptional]]:
    """Read the table.

    Returns:
        The papers by their short names, all rows in order, and the exceptions by PAPER.TABLE, config
        and figure.

    Raises:
        UserError: If a key is unknown, or an exception names no row.
    """
    with open(path) as file:
        content = yaml.safe_load(file)
    papers = {
        key: Paper(paper['name'], paper['title'], paper['code'])
        for key, paper in content['papers'].items()
    }
    rows = [
        _row(paper, str(number), table, entry, part == 'peers', path)
        for paper, parts in content['papers'].items()
        for number, table in parts['tables'].items()
        for part in ('peers', 'rows')
        for entry in table.get(part, ())
    ]
    known = {(row.key, row.config, figure) for row in rows for figure in row.figures}
    exceptions = {}
    for entry in content['exceptions']:
        _check_keys(entry, EXCEPTION_KEYS, path)
        options = dict(entry)
        table, configs = options.pop('table'), options.pop('configs')
        exception = Exceptional(**{**options, 'flops_input': _size(options.get('flops_input'))})
        for config in configs:
            key = (table, config, exception.figure)
            if key not in known:
                raise UserError(f'{path}: the exception for {key} belongs to no row')
            exceptions[key] = exception
    return papers, rows, exceptions


def decimals(figure: float) -> int:
    """Decimals with which a figure is printed: 24 has none, 24.0 has one."""
    return len(repr(figure).partition('.')[2])


def _row(paper: str, number: str, table: dict, entry: dict, peer: bool, path: Path) -> Row:
    _check_keys(entry, ROW_KEYS, path)
    return Row(
        paper,
        number,
        entry.get('config', '') if peer else entry['config'],
        entry['name'],
        {name: entry[name] for name in ('params_M', 'flops_G') if name in entry},
        {name: entry[name] for name in METRICS if name in entry},
        entry.get('counter', table.get('counter')),
        _size(entry.get('flops_input', table.get('flops_input'))),
        entry.get('note', ''),
        peer,
    )


def _size(text: str | None) -> tuple[int, int] | None:
    """'WIDTHxHEIGHT' as (height, width)."""
    if text is None:
        return None
    width, height = map(int, text.split('x'))
    return height, width


def _check_keys(entry: dict, allowed: set[str], path: Path) -> None:
    unknown = set(entry) - allowed
    if unknown:
        raise UserError(
            f'{path}: unknown {sorted(unknown)} in {entry}; allowed are {sorted(allowed)}'
        )
