"""Parameters and FLOPs of every config beside the papers', and with --work-dirs the results of
runs.

Ends with status 1 if a figure differs from the printed one by more than its rounding and
configs/papers.yaml does not list it as an exception whose arithmetic gives the printed figure.
Figures of peers, which the papers quote from elsewhere, may differ by 3 %. --tables prints the
papers' tables whole, peers, latency and multi-scale mIoU included, each cell with what was counted
or reached in brackets.
"""

import argparse
import functools
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger

from spm_mm.engine import Complexity, measure, run_tool
from spm_mm.engine.papers import METRICS, Exceptional, Row, decimals, load_papers
from spm_mm.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# How the counters of papers add up what `measure` counts; configs/papers.yaml says what they leave out.
MACS: dict[str | None, Callable[[Complexity], int]] = {
    None: lambda c: c.total_macs,
    'layers': lambda c: c.total_macs - c.products,
    'binary': lambda c: round(c.total_macs * 1e9 / 2**30),
    'thop': lambda c: c.total_macs - c.products + 4 * c.normed,
    'mmcv': lambda c: c.total_macs - c.products + 2 * c.normed + c.rectified + c.biased,
    'mmcv_with_attention': lambda c: c.total_macs + 2 * c.normed + c.rectified + c.biased,
    'torchprofile': lambda c: c.total_macs + c.normed + 4 * c.bilinear + c.spread,
    'fvcore': lambda c: c.total_macs + 5 * c.normed + 4 * c.bilinear + c.nearest + c.spread,
}
# Counters that saw the official code at work, and not only what a model is made of.
AS_PUBLISHED = ('thop', 'torchprofile')
# Metrics of the frameworks' logs, and what turns them into percent.
LOGGED = {
    'top1': ('accuracy/top1', 1),
    'AP_b': ('coco/bbox_mAP', 100),
    'AP_b50': ('coco/bbox_mAP_50', 100),
    'AP_b75': ('coco/bbox_mAP_75', 100),
    'AP_b_small': ('coco/bbox_mAP_s', 100),
    'AP_b_medium': ('coco/bbox_mAP_m', 100),
    'AP_b_large': ('coco/bbox_mAP_l', 100),
    'AP_m': ('coco/segm_mAP', 100),
    'AP_m50': ('coco/segm_mAP_50', 100),
    'AP_m75': ('coco/segm_mAP_75', 100),
    'mIoU': ('mIoU', 1),
}
# By how much our count of a peer may differ from what a paper quotes for it.
PEER_TOLERANCE = 0.03


@dataclass(frozen=True)
class Comparison:
    """A printed figure beside ours: the plain count, the one as the paper counts, and a verdict."""

    row: Row
    figure: str
    printed: float
    ours: float
    as_counted: float
    verdict: str
    why: str = ''

    @property
    def differs(self) -> bool:
        return self.verdict == 'DIFFERS'


@functools.cache
def _measured(
    config: str, shape: tuple[int, int] | None, as_published: bool, options: str
) -> Complexity:
    cfg = Config.fromfile(CONFIGS / f'{config}.py')
    cfg.merge_from_dict(json.loads(options))
    return measure(cfg, shape, as_published)


def count(
    row: Row, figure: str, counter: str | None, exception: Exceptional | None = None
) -> float:
    """The figure of a row's config in the unit of the tables, M or G, by one of the counters."""
    if counter not in MACS:
        raise UserError(f'counter {counter!r} of {row.key} is unknown: allowed are {list(MACS)}')
    shape = (exception and exception.flops_input) or row.flops_input
    options = json.dumps(exception.options if exception else {})
    counted = _measured(row.config, shape, counter in AS_PUBLISHED, options)
    params = macs = -exception.plus if exception else 0
    for pattern in exception.without if exception else ():
        left_out = counted.of(pattern)
        if left_out is None:
            raise UserError(f'{row.config} has no part {pattern!r}')
        params, macs = params + left_out[0], macs + left_out[1]
    if figure == 'params_M':
        bare = counted.bare_params if counter == 'thop' else 0
        return (counted.total_params - bare - params) / 1e6
    return (MACS[counter](counted) - macs) / 1e9


def agrees(value: float, printed: float, rounding: str = 'nearest') -> bool:
    """Whether a value is printed so: within half a unit of the last decimal, or cut off there."""
    if rounding == 'down':
        return printed <= value < printed + 2 * half_unit(printed)
    return abs(value - printed) <= half_unit(printed) + 1e-9


def half_unit(printed: float) -> float:
    """Half of a unit of the last printed decimal."""
    return 10 ** -decimals(printed) / 2


def compare(row: Row, figure: str, exception: Exceptional | None = None) -> Comparison:
    """Set one printed figure beside ours; an exception that is not needed counts as a difference."""
    printed = row.figures[figure]
    ours = count(row, figure, None)
    as_counted = count(row, figure, row.counter) if row.counter else ours
    result = functools.partial(Comparison, row, figure, printed, ours)
    if exception is None:
        if agrees(as_counted, printed):
            by = f'as {row.counter}' if row.counter and not agrees(ours, printed) else ''
            return result(as_counted, 'agrees', by)
        if row.peer and abs(as_counted - printed) <= PEER_TOLERANCE * printed + half_unit(printed):
            return result(as_counted, 'quoted', 'as the paper quotes it')
        return result(as_counted, 'DIFFERS')
    if agrees(as_counted, printed):
        return result(as_counted, 'DIFFERS', f'needs no exception: {exception.why}')
    value = count(row, figure, exception.counter or row.counter, exception)
    target, verdict = printed, 'exception'
    if exception.misprint_of is not None:
        target, verdict = exception.misprint_of, 'misprint'
    elif exception.unexplained is not None:
        target, verdict = exception.unexplained, 'unexplained'
    elif exception.rounded_from is not None:
        target = exception.rounded_from
        if not agrees(target, printed):
            return result(value, 'DIFFERS', f'{target} is not printed as {printed}')
    if agrees(value, target, exception.rounding):
        return result(value, verdict, exception.why)
    return result(value, 'DIFFERS', f'the exception gives {value:.3f}: {exception.why}')


def comparisons(paper: str | None = None) -> Iterator[Comparison]:
    """All printed figures of the configs that there are."""
    _, rows, exceptions = load_papers(CONFIGS / 'papers.yaml')
    for row in rows:
        if paper in (None, row.paper) and (CONFIGS / f'{row.config}.py').is_file():
            for figure in row.figures:
                yield compare(row, figure, exceptions.get((row.key, row.config, figure)))


@dataclass(frozen=True)
class Run:
    """The last results of a run, in percent, and how far it came."""

    metrics: dict[str, float]
    progress: str


def read_run(work_dir: Path, config: str) -> Run | None:
    """The last validation or test in the logs of a work dir; None if there is none.

    Args:
        work_dir: Folder that mmengine wrote, with the config beside the dated folders of the logs.
        config: The config of the suite that it ran, FRAMEWORK/NAME: its length counts as finished.

    Raises:
        UserError: If a log is not what mmengine writes.
    """
    found: dict[str, float] = {}
    multi_scale: dict[str, float] = {}
    step = None
    logs = [*work_dir.glob('*/vis_data/scalars.json'), *work_dir.glob('*/*.json')]
    for log in sorted(logs, key=lambda path: (path.stat().st_mtime, path)):
        augmented = is_augmented(work_dir / log.relative_to(work_dir).parts[0])
        for number, line in enumerate(log.read_text().splitlines(), 1):
            try:
                entry = json.loads(line)
                values = {
                    ours: entry[theirs] * factor
                    for ours, (theirs, factor) in LOGGED.items()
                    if entry.get(theirs, -1) >= 0  # COCO's -1: there was nothing to find
                }
            except (ValueError, TypeError, AttributeError) as error:
                raise UserError(f'{log}, line {number} is no log of mmengine: {error}') from error
            if augmented and 'mIoU' in values:
                multi_scale = {'mIoU_ms': values['mIoU']}
            elif values:
                found, step = values, entry.get('step', step)
    found |= multi_scale
    if not found:
        return None
    return Run(found, _progress(CONFIGS / f'{config}.py', step))


def is_augmented(folder: Path) -> bool:
    """Whether the run of a dated folder was ``tools/test.py --tta``."""
    dumped = folder / 'vis_data' / 'config.py'
    return dumped.is_file() and 'TTA' in Config.fromfile(dumped).model.type


def _progress(config: Path, step: int | None) -> str:
    """How far a run came of what the config of the suite plans, in epochs or iterations."""
    if step is None:
        return 'test'
    train = Config.fromfile(config).train_cfg
    planned = train.get('max_epochs') or train.max_iters
    if step >= planned:
        return f'finished, {step}'
    return f'NOT FINISHED, {step} of {planned}'


def results(folder: Path, paper: str | None = None) -> Iterator[tuple[Row, Run]]:
    """The runs below a folder beside the rows of their configs; a run is known by its config's name."""
    _, rows, _ = load_papers(CONFIGS / 'papers.yaml')
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        if paper in (None, row.paper):
            by_name.setdefault(row.config.partition('/')[2], []).append(row)
    for dumped in sorted(folder.rglob('*.py')):
        if dumped.stem in by_name:
            run = read_run(dumped.parent, by_name[dumped.stem][0].config)
            if run is not None:
                yield from ((row, run) for row in by_name[dumped.stem])


def print_comparisons(paper: str | None) -> int:
    """Print the table and return the number of differences."""
    differences = 0
    print('| table | config | figure | paper | ours | difference | counted as the paper | |')
    print('|---|---|---|---|---|---|---|---|')
    for c in comparisons(paper):
        differences += c.differs
        print(
            f'| {c.row.key} | {c.row.config} | {c.figure} | {c.printed} | {c.ours:.3f} |'
            f' {c.ours - c.printed:+.3f} | {c.as_counted:.3f} | {c.verdict} {c.why}'.rstrip()
            + ' |'
        )
    return differences


def print_results(folder: Path, paper: str | None) -> None:
    print('| table | config | metric | paper | this run | difference | run |')
    print('|---|---|---|---|---|---|---|')
    none = True
    for row, run in results(folder, paper):
        for name, printed in row.metrics.items():
            if name in run.metrics:
                none = False
                value = run.metrics[name]
                print(
                    f'| {row.key} | {row.config} | {name} | {printed} | {value:.2f} |'
                    f' {value - printed:+.2f} | {run.progress} |'
                )
    if none:
        raise UserError(f'no results of a config of {CONFIGS / "papers.yaml"} below {folder}')


def print_tables(paper: str | None, folder: Path | None) -> None:
    """Print every table of the papers whole, and in brackets what is counted and what runs reached."""
    papers, rows, exceptions = load_papers(CONFIGS / 'papers.yaml')
    reached = {}
    for row, run in results(folder, paper) if folder else ():
        reached[row.config] = run.metrics
    keys = dict.fromkeys((row.paper, row.table) for row in rows if paper in (None, row.paper))
    for name, table in keys:
        lines = [row for row in rows if (row.paper, row.table) == (name, table)]
        columns = [
            column
            for column in ('params_M', 'flops_G', *METRICS)
            if any(column in row.figures or column in row.metrics for row in lines)
        ]
        print(f'\n{papers[name].name}, {"Table " if table.isdigit() else ""}{table}\n')
        print('| |', *(f'{column} |' for column in columns), 'config |')
        print('|---|', *('---|' for _ in columns), '---|')
        for row in lines:
            cells = []
            for column in columns:
                printed = row.figures.get(column, row.metrics.get(column))
                ours = reached.get(row.config, {}).get(column)
                if column in row.figures and (CONFIGS / f'{row.config}.py').is_file():
                    exception = exceptions.get((row.key, row.config, column))
                    ours = compare(row, column, exception).as_counted
                cells.append('' if printed is None else f'{printed}')
                cells[-1] += '' if ours is None else f' ({ours:.3f})'
            print(f'| {row.name} |', *(f'{cell} |' for cell in cells), f'{row.config} |')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--paper', help='one of spm, hafa, paca, sgformer, lit; default: all')
    parser.add_argument(
        '--work-dirs',
        type=Path,
        metavar='DIR',
        help='set the results in the logs below DIR beside the papers, instead of counting',
    )
    parser.add_argument('--tables', action='store_true', help="print the papers' tables whole")
    args = parser.parse_args()
    known = load_papers(CONFIGS / 'papers.yaml')[0]
    if args.paper is not None and args.paper not in known:
        raise UserError(f'--paper must be one of {[*known]}, got {args.paper!r}')
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    if args.work_dirs is not None and not args.work_dirs.is_dir():
        raise UserError(f'--work-dirs {args.work_dirs} is no folder')
    if args.tables:
        print_tables(args.paper, args.work_dirs)
        return
    if args.work_dirs is not None:
        print_results(args.work_dirs, args.paper)
        return
    differences = print_comparisons(args.paper)
    if differences:
        sys.exit(f'{differences} figures differ')


if __name__ == '__main__':
    run_tool(main)
