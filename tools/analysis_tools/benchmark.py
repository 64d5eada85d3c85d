"""Time, memory and MACs of backbones, one beside the other in one process.

SUBJECT is CONFIG[:MERGING], the backbone of a config, or BACKBONE[/ARCH][:MERGING], such as PVT/tiny or
PVT/tiny:StepwiseMerging; MERGING, or three with commas between, takes the place of its own. All
subjects run in turns, so that drift of the machine meets all alike; 'time to base' compares within
each turn with the first subject, or with ours for what --against sets beside it. Inference is a
pass without gradients, training forward and backward, without an optimizer.
spm_mm/benchmark/measure.py says how memory is measured.

Weights and images are random. --against checks before it measures that both put out the same, in
float64 too where float32 does not settle the order of tokens.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from spm_mm.benchmark import (
    AGAINST,
    CLOCKS,
    MODES,
    PRESETS,
    VARIANTS,
    Plan,
    Subject,
    agree,
    build_all,
    clustering_subject,
    draw,
    gle_subjects,
    machine_rates,
    measure_all,
    neighborhood_subjects,
    rivals_of,
    slopes,
    subject_of,
    tabulate,
)
from spm_mm.benchmark.cost_sheet import build_dense, cost_of, read_card, tabulate_costs
from spm_mm.engine import run_tool
from spm_mm.errors import UserError

TOLERANCE = 1e-4
FLIPPED = 0.05
"""Relative distance in float32 above which no token that changed its place explains it."""


def size(text: str) -> tuple[int, int]:
    """Read 224 or 800x1333."""
    height, _, width = text.partition('x')
    return int(height), int(width or height)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('subjects', nargs='*', metavar='SUBJECT', help='see above')
    parser.add_argument(
        '--preset',
        choices=PRESETS,
        help='; '.join(f'{name}: {preset.help}' for name, preset in PRESETS.items()),
    )
    parser.add_argument(
        '--gle', action='store_true', help="SPM's GLE alone beside its reference implementation"
    )
    parser.add_argument(
        '--clustering',
        action='store_true',
        help="HAFA's clustering alone, of the tokens after stage 3; has inference alone",
    )
    parser.add_argument(
        '--neighborhood',
        action='store_true',
        help="NAT-Mini's neighborhood attention alone, at the maps of its stages, beside other routes",
    )
    parser.add_argument(
        '--against',
        choices=AGAINST,
        help="framework: the framework's own class; reference: the paper's equations as they read;"
        ' with_cp: activations of MLPs and whole blocks that the backward pass recomputes',
    )
    parser.add_argument(
        '--sizes', nargs='+', type=size, metavar='S|HxW', help='default 224 512 800x1333'
    )
    parser.add_argument('--batch', nargs='+', type=int, help='images in a pass, default 1')
    parser.add_argument('--modes', nargs='+', choices=MODES, help='default both')
    parser.add_argument('--variants', nargs='+', choices=VARIANTS, help='default float32')
    parser.add_argument(
        '--repeat', type=int, help='rounds that count, default 9; 0: count MACs alone'
    )
    parser.add_argument('--no-memory', dest='memory', action='store_false', default=None)
    parser.add_argument(
        '--kernels', type=int, metavar='N', help='name the N operators that take the most time'
    )
    parser.add_argument(
        '--clock',
        choices=CLOCKS,
        help='cpu counts what the process really ran: for a busy machine and one thread',
    )
    parser.add_argument(
        '--cost-sheet',
        metavar='a100|h100|h200|FILE',
        help='measure nothing: count kernels, bytes and MACs for a GPU, with the times that they take'
        ' at least, see spm_mm/benchmark/cost_sheet.py; a config stands for backbone, neck and dense'
        ' heads; --kernels N names the operators that move the most',
    )
    parser.add_argument('--threads', type=int, help='threads of an operator on the CPU')
    parser.add_argument('--device', choices=('cpu', 'cuda'))
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all measurements there')
    parser.add_argument('--plot', type=Path, metavar='FILE.png', help='draw time over pixels')
    parser.add_argument('--markdown', action='store_true', help='a table for a document')
    return parser.parse_args(argv)


def plan_of(args: argparse.Namespace) -> Plan:
    """What the arguments ask for, over the preset's plan.

    Raises:
        UserError: If a number is too small, a file has another ending, or there is no GPU.
    """
    plan = PRESETS[args.preset].plan if args.preset else Plan()
    given = vars(args) | {'batches': args.batch}
    changes = {
        field.name: given[field.name]
        for field in dataclasses.fields(Plan)
        if given.get(field.name) is not None
    }
    plan = dataclasses.replace(plan, **changes)
    numbers = [*plan.batches, *(side for s in plan.sizes for side in s), args.threads or 1]
    if min(numbers) < 1 or plan.repeat < 0 or plan.kernels < 0:
        raise UserError(
            '--batch, --sizes and --threads must be at least 1, --repeat and --kernels 0'
        )
    if plan.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda needs a GPU that PyTorch sees')
    if args.plot and args.plot.suffix != '.png':
        raise UserError(f'--plot must end in .png, got {args.plot}')
    return plan


def gather(args: argparse.Namespace, plan: Plan) -> list[Subject]:
    """The subjects, each followed by what it is set beside."""
    specs = args.subjects or (PRESETS[args.preset].subjects if args.preset else ())
    subjects = [subject_of(spec) for spec in specs]
    if args.cost_sheet:
        subjects = [
            dataclasses.replace(subject, make=functools.partial(build_dense, spec))
            if spec.endswith('.py')
            else subject
            for subject, spec in zip(subjects, specs, strict=True)
        ]
    if args.against:
        subjects = [one for s in subjects for one in rivals_of(s, args.against)]
    if args.gle:
        subjects += gle_subjects()
    if args.clustering:
        if args.modes != ['inference']:
            raise UserError('--clustering has no gradient: --modes must be inference')
        subjects.append(clustering_subject())
    if args.neighborhood:
        subjects += neighborhood_subjects(plan.sizes)
    if not subjects:
        raise UserError(
            'nothing to measure: name a config or a backbone, --preset, --gle, --clustering or'
            ' --neighborhood'
        )
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise UserError(f'a subject is there twice: {names}')
    return subjects


def compare_outputs(
    subjects: Sequence[Subject],
    models: dict[str, nn.Module],
    size: tuple[int, int],
    console: Console,
) -> dict[str, float]:
    """Print how far twins are from each other, in float64 where float32 does not settle it.

    SG-Former sorts its tokens by a significance that it computes, HAFA clusters them: the last bits of
    float32 may put two tokens either way round, which changes an output by some percent at most.

    Raises:
        UserError: If two put out something else in float64, too.
    """
    distances = agree(subjects, models, size)
    for name, distance in distances.items():
        console.print(f'{name}: outputs differ by {distance:.1e}')
        if not distance <= FLIPPED:
            raise UserError(f'{name} puts out something else: relative distance {distance:.1e}')
    unsettled = [s for s in subjects if not distances.get(s.name, 0) <= TOLERANCE]
    for name, distance in agree(unsettled, models, size, torch.float64).items():
        console.print(f'{name}: outputs differ by {distance:.1e} in float64')
        if not distance <= TOLERANCE:
            raise UserError(f'{name} puts out something else: relative distance {distance:.1e}')
        distances[f'{name}, float64'] = distance
    return distances


def print_cost_sheet(
    name: str, subjects: Sequence[Subject], plan: Plan, console: Console, args: argparse.Namespace
) -> None:
    """Print what every subject costs on a card, and write it to ``--json``.

    Raises:
        UserError: If the card is unknown, or a variant has no cost sheet.
    """
    card = read_card(name)
    if 'compiled' in plan.variants:
        raise UserError(
            '--cost-sheet has both forms, eager and fused: leave out the variant compiled'
        )
    costs = []
    for subject in subjects:
        for variant in plan.variants:
            for size in plan.sizes:
                for batch in plan.batches:
                    for mode in plan.modes:
                        place = f'{subject.name}, {batch} x {size[0]} x {size[1]}'
                        found = cost_of(subject.make, (batch, 3, *size), mode, variant)
                        costs.append((place, mode, variant, found))
    console.print(tabulate_costs(costs, card, args.markdown))
    for place, mode, variant, forms in costs if plan.kernels else ():
        operators = list(forms['eager'].operators.items())[: plan.kernels]
        listed = ', '.join(f'{key} {n} ({moved / 1e9:.2f} GB)' for key, (n, moved) in operators)
        console.print(f'{place}, {mode}, {variant}: {listed}')
    if args.json:
        rows = [
            dict(subject=place, mode=mode, variant=variant, form=form, floors=cost.floors(card))
            | dataclasses.asdict(cost)
            for place, mode, variant, forms in costs
            for form, cost in forms.items()
        ]
        args.json.write_text(json.dumps({'card': dataclasses.asdict(card), 'rows': rows}, indent=1))


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    plan = plan_of(args)
    subjects = gather(args, plan)
    if args.threads:
        torch.set_num_threads(args.threads)
    console = Console(width=None if Console().is_terminal else 200)
    if args.cost_sheet:
        print_cost_sheet(args.cost_sheet, subjects, plan, console, args)
        return
    place = torch.cuda.get_device_name() if plan.device == 'cuda' else 'CPU'
    machine = {
        'device': place,
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        'clock': plan.clock,
    }
    if plan.repeat:
        machine |= machine_rates(plan.device, plan.clock)
    models = build_all(subjects)
    distances = compare_outputs(subjects, models, min(plan.sizes), console) if plan.repeat else {}
    rows = measure_all(subjects, models, plan)
    console.print(', '.join(f'{key} {_shown(value)}' for key, value in machine.items()))
    console.print(tabulate(rows, args.markdown))
    if len(plan.sizes) > 1:
        console.print('slopes over the number of pixels, logarithmic; 1 is linear')
        console.print(slopes(rows))
    for row in rows:
        if row.kernels:
            shares = ', '.join(f'{name} {share:.0%}' for name, share in row.kernels)
            console.print(f'{row.subject}, {row.size}, {row.mode}, {row.variant}: {shares}')
    if args.json:
        written = {'machine': machine, 'distances': distances}
        written['rows'] = [dataclasses.asdict(row) for row in rows]
        args.json.write_text(json.dumps(written, indent=1))
    if args.plot:
        draw(rows, args.plot)


def _shown(value: object) -> str:
    return f'{value:.3g}' if isinstance(value, float) else str(value)


if __name__ == '__main__':
    run_tool(main)
