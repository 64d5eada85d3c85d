"""Compare mergings, backbones or any key of a config: every value with every seed, then one report.

    python tools/compare.py configs/mmseg/fpn_pvt_tiny_camvid.py \\
        --mergings conv deformable hafa stepwise --seeds 0 1 2
    python tools/compare.py MY_CONFIG.py \\
        --vary model.backbone.merging.kernel_sizes="[3]" "[3,5]" "[3,5,7,9]" --seeds 3
    python tools/compare.py --report work_dirs/compare/NAME

Each cell is a run of tools/train.py in a work dir of its own. The same command, started again, skips
what is finished, resumes what was killed and repeats what failed; several machines may run it on one
shared folder. docs/guides/compare.md explains the report.
"""

import argparse
import fcntl
import logging
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from rich.console import Console

from spm_mm.compare.costs import Cost, estimated_hours, fitting_length, measure_costs, stamp
from spm_mm.compare.grid import (
    Variant,
    backbone_choices,
    cell_config,
    check_differences,
    make_grid,
    merging_choices,
    parse_seeds,
    parse_vary,
)
from spm_mm.compare.launch import Launcher, run_cells
from spm_mm.compare.pictures import draw_predictions
from spm_mm.compare.plan import PLAN, Plan
from spm_mm.compare.record import read_json, write_json
from spm_mm.compare.report import write_report
from spm_mm.compare.results import COSTS, collect, join
from spm_mm.compare.schedule import scale_schedule
from spm_mm.compare.tables import summary_table, unfinished_table
from spm_mm.engine import load_config, run_tool
from spm_mm.errors import UserError

TRAIN = Path(__file__).resolve().with_name('train.py')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', nargs='?', help='config file of any of the three frameworks')
    what = parser.add_argument_group('what is compared (several of them make a grid)')
    what.add_argument(
        '--mergings',
        nargs='+',
        metavar='NAME',
        help='conv, deformable, stepwise, cluster, swin, ...; own for the default of the backbone;'
        ' hafa; or A,B,C for the three transitions',
    )
    what.add_argument(
        '--backbones', nargs='+', metavar='NAME[/ARCH]', help='e.g. PVT/tiny SwinTransformer/tiny'
    )
    what.add_argument(
        '--vary',
        nargs='+',
        action='append',
        default=[],
        metavar=('KEY=VALUE', 'VALUE'),
        help='values of any key, as in --cfg-options; a dict in braces, as YAML',
    )
    what.add_argument(
        '--seeds', nargs='+', type=int, default=[3], help='several seeds, or how many (default 3)'
    )
    what.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, in every cell',
    )
    how = parser.add_argument_group('how it runs')
    how.add_argument('--work-dir', type=Path, help='default work_dirs/compare/CONFIG')
    how.add_argument(
        '--dry-run', action='store_true', help='show grid, hours and memory; run nothing'
    )
    how.add_argument(
        '--hours', type=float, help='shorten or lengthen the schedule of all cells to fit'
    )
    how.add_argument('--jobs', type=int, help='cells at a time (default 1; with Slurm all of them)')
    how.add_argument('--processes', type=int, default=1, help='processes of a cell (default 1)')
    how.add_argument(
        '--launcher', choices=('none', 'slurm'), default='none', help='slurm submits cells as jobs'
    )
    how.add_argument('--partition', help='of Slurm; GPUS, SRUN_ARGS etc. as for slurm_train.sh')
    how.add_argument(
        '--repeat', type=int, default=7, help='timed rounds of each step (default 7; 0: none)'
    )
    out = parser.add_argument_group('the report')
    out.add_argument(
        '--report',
        nargs='+',
        type=Path,
        metavar='DIR',
        help='report what is there, and run nothing; several folders or results.json are joined',
    )
    out.add_argument('--metric', help='metric to compare (default mIoU, AP or top-1 accuracy)')
    out.add_argument(
        '--images', type=int, default=4, help='images to show predictions on (default 4)'
    )
    out.add_argument(
        '--no-images', action='store_true', help='show none, e.g. by licence of the data'
    )
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    if (args.config is None) == (args.report is None):
        raise UserError('give a config to compare its variants, or --report DIR')
    varied = bool(args.mergings or args.backbones or args.vary)
    if args.config and not varied:
        raise UserError('nothing is varied: give --mergings, --backbones or --vary')
    for name, least in (('jobs', 1), ('processes', 1), ('repeat', 0), ('images', 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f'--{name} must be {least} or more, got {value}')
    if args.hours is not None and args.hours <= 0:
        raise UserError(f'--hours must be positive, got {args.hours:g}')
    if args.hours is not None and not args.repeat:
        raise UserError('--hours needs timed steps: leave out --repeat 0')
    if args.launcher == 'slurm' and not args.partition:
        raise UserError('--launcher slurm needs --partition')
    if args.launcher == 'slurm' and args.processes > 1:
        raise UserError('--processes is for local cells; with Slurm set GPUS=N in the environment')


def variants_of(args: argparse.Namespace, cfg: Config) -> list[Variant]:
    choices = []
    if args.backbones:
        choices.append(backbone_choices(args.backbones, cfg))
    if args.mergings:
        choices.append(merging_choices(args.mergings, cfg))
    choices += map(parse_vary, args.vary)
    return make_grid(choices)


@contextmanager
def one_caller(folder: Path):
    """Keep other callers from planning in the same folder; they wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'plan.lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def compare(args: argparse.Namespace, console: Console, command: Sequence[str]) -> int:
    base = load_config(args)
    seeds = parse_seeds(args.seeds)
    variants = variants_of(args, base)
    folder = args.work_dir or Path('work_dirs/compare', Path(args.config).stem)
    if args.dry_run:
        dry_run(args, base, variants, seeds, console)
        return 0
    with one_caller(folder):
        plan = Plan.read(folder) if (folder / PLAN).exists() else Plan(folder, args.config)
        columns = {variant.label: variant for variant in (*plan.variants, *variants)}
        configs = {v.label: cell_config(base, v, seeds[0]) for v in columns.values()}
        costs = stored_costs(folder, [*configs], timed=args.repeat > 0)
        measured = costs is None
        if measured:
            console.print(f'measuring {len(configs)} columns side by side', highlight=False)
            costs = measure_costs(configs, args.repeat)
        if args.hours and plan.length is None:
            fits = fitting_length([*costs.values()], [*configs.values()], len(seeds), args.hours)
            console.print(f'{args.hours:g} hours fit a training length of {fits}', highlight=False)
            plan.length = fits
        if plan.length is not None:
            scale_schedule(base, plan.length)
        plan.add(base, variants, seeds, command)
        if measured:
            rows = {label: vars(cost) for label, cost in costs.items()}
            write_json(folder / COSTS, dict(measured=stamp(), repeat=args.repeat, columns=rows))
    show_changes(plan.variants, plan.changes, console)
    launcher = Launcher([sys.executable, str(TRAIN)], args.launcher, args.processes, args.partition)
    jobs = args.jobs or (len(plan.cells) if args.launcher == 'slurm' else 1)
    try:
        run_cells(plan.cells, launcher, jobs, console, plan.varies_data)
    except KeyboardInterrupt:
        done = sum(cell.finished for cell in plan.cells)
        console.print(f'interrupted with {done} of {len(plan.cells)} cells finished;'
                      ' the same command continues')  # fmt: skip
        return 130
    results = report([folder], folder, args, console)
    cells = [cell for column in results['columns'] for cell in column['cells']]
    return 0 if all(cell['state'] == 'finished' for cell in cells) else 1


def stored_costs(folder: Path, labels: Sequence[str], timed: bool) -> dict[str, Cost] | None:
    """The costs that an earlier call measured, if they are of these columns, and timed if wanted."""
    stored = read_json(folder / COSTS) or {}
    columns = stored.get('columns', {})
    if columns.keys() != set(labels) or (timed and not stored['repeat']):
        return None
    return {label: Cost(**columns[label]) for label in labels}


def show_changes(variants: Sequence[Variant], changes: dict[str, dict], console: Console) -> None:
    console.print(f'{variants[0].label}: the config that the others are compared with')
    for variant in variants[1:]:
        for key, (old, new) in changes[variant.label].items():
            console.print(f'{variant.label}: {key}: {old} -> {new}', markup=False, highlight=False)


def dry_run(
    args: argparse.Namespace,
    base: Config,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    console: Console,
) -> None:
    configs = {variant.label: cell_config(base, variant, seeds[0]) for variant in variants}
    changes = check_differences(variants, [*configs.values()])
    labels = [variant.label for variant in variants]
    show_changes(variants, dict(zip(labels, changes, strict=True)), console)
    console.print(
        f'{len(variants)} columns x {len(seeds)} seeds = {len(variants) * len(seeds)} cells'
    )
    costs = measure_costs(configs, args.repeat)
    for label, cost in costs.items():
        memory = f', {cost.train_memory / 2**30:.2f} GiB' if cost.train_memory else ''
        console.print(f'{label}: {cost.params / 1e6:.2f} M parameters{memory}', markup=False)
    if not args.repeat:
        return
    if args.hours:
        length = fitting_length([*costs.values()], [*configs.values()], len(seeds), args.hours)
        console.print(f'{args.hours:g} hours fit a training length of {length}')
        for cfg in configs.values():
            scale_schedule(cfg, length)
    hours = estimated_hours([*costs.values()], [*configs.values()], len(seeds))
    console.print(f'about {hours:.2f} hours one after another, without the loading of data')
    largest = max(cost.train_memory for cost in costs.values()) / 2**30
    free = psutil.virtual_memory().available / 2**30
    console.print(
        f'a cell takes up to {largest:.2f} GiB beside libraries and data loaders;'
        f' {free:.1f} GiB of main memory are free'
    )


def report(
    sources: Sequence[Path], folder: Path, args: argparse.Namespace, console: Console
) -> dict:
    """Write the report of one or several comparisons and print its tables."""
    found, pictures = [], []
    for source in sources:
        if source.suffix == '.json':
            found.append(read_json(source))
            if found[-1] is None:
                raise UserError(f'{source} does not exist')
            continue
        plan = Plan.read(source)
        found.append(collect(plan, args.metric))
        if len(sources) == 1 and args.images and not args.no_images:
            pictures = draw_predictions(plan, args.images)
    results = found[0] if len(found) == 1 else join(found)
    files = write_report(folder, results, pictures)
    console.print(summary_table(results).transposed().rich())
    if (unfinished := unfinished_table(results)) is not None:
        console.print(unfinished.rich())
    for path in files:
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    return results


def main() -> None:
    args = parse_args()
    check(args)
    console = Console()
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    if args.report:
        if len(args.report) > 1 and args.work_dir is None:
            raise UserError('--report of several comparisons needs --work-dir for the joint report')
        report(args.report, args.work_dir or args.report[0], args, console)
        return
    sys.exit(compare(args, console, ['python', *sys.argv]))


if __name__ == '__main__':
    run_tool(main)
