"""Training curves of several runs in one picture (SPM, Figure 6(b)).

The runs are work dirs of tools/train.py; their logs are read, those of resumed runs, too. The
number is the last value of each run.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from spm_mm.engine import run_tool
from spm_mm.errors import UserError
from spm_mm.visualization import save_chart


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', type=Path, metavar='WORK_DIR', help='work dirs')
    parser.add_argument('out', metavar='OUT', type=Path, help='file to write; ends in .png')
    parser.add_argument(
        '--metric', default='loss', help='what is drawn, e.g. loss or accuracy/top1; default: loss'
    )
    parser.add_argument(
        '--window', type=int, default=1, help='mean over so many entries of the log; default: 1'
    )
    args = parser.parse_args(argv)
    if args.out.suffix != '.png':
        raise UserError(f'OUT must end in .png, got {args.out}')
    if args.window < 1:
        raise UserError(f'--window must be at least 1, got {args.window}')
    curves = {}
    for run in args.runs:
        steps, values = read_curve(run, args.metric)
        curves[str(run)] = steps, smooth(values, args.window)
        print(f'{run}: {args.metric} {values[-1]:.4g} at step {steps[-1]}')

    def draw(axes: Axes) -> None:
        for name, (steps, values) in curves.items():
            axes.plot(steps, values, label=f'{Path(name).name}: {values[-1]:.4g}')
        axes.legend()

    save_chart(args.out, draw, 'training curves', ('step', args.metric))
    print(f'wrote {args.out}')


def read_curve(run: Path, metric: str) -> tuple[list[int], list[float]]:
    """Steps and values of a metric in the logs of a work dir; a resumed run's later log holds.

    Raises:
        UserError: If there are no logs, a log is not what mmengine writes, or none has the metric.
    """
    logs = sorted(run.glob('*/vis_data/scalars.json'), key=lambda p: (p.stat().st_mtime, p))
    if not logs:
        raise UserError(f'{run} has no logs (*/vis_data/scalars.json)')
    found: dict[int, float] = {}
    known: set[str] = set()
    for log in logs:
        for number, line in enumerate(log.read_text().splitlines(), 1):
            try:
                entry = json.loads(line)
                known |= set(entry)
                if metric in entry:
                    found[int(entry['step'])] = float(entry[metric])
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f'{log}, line {number} is no entry of a log: {error}') from error
    if not found:
        raise UserError(f'{run} has no {metric!r} in its logs; they hold {sorted(known)}')
    return list(map(list, zip(*sorted(found.items()), strict=True)))


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and the ``window - 1`` before it, of as many as there are."""
    return [
        sum(values[max(0, i + 1 - window) : i + 1]) / min(window, i + 1) for i in range(len(values))
    ]


if __name__ == '__main__':
    run_tool(main)
